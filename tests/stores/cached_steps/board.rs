//! Where calls stand still until the scheduler lets them go on.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::{Poll, Waker},
};

use tower_keep::{StoreError, StoreErrorKind};

/// Who calls: an actor by its number, or the payer of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Actor(usize),
    Payer(usize),
}

/// What is called.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Call {
    /// On the store: what reads, and what writes.
    Load,
    Write(&'static str),
    /// On the cache of that number.
    Get(usize),
    Alter(usize, &'static str),
}

/// Where a caller stands.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Stage {
    /// In its own code, or not begun.
    Elsewhere,
    /// The request is on its way.
    Before(Call),
    /// The reply is on its way.
    After { call: Call, failed: bool },
}

/// What the scheduler lets a call do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    /// An error, and no effect.
    Fail,
    /// The effect, and an error.
    LoseReply,
    /// An error, and the effect at any later time.
    Delay,
}

/// The places of all callers. Clones are the same board.
#[derive(Clone)]
pub(super) struct Board(Arc<Mutex<Places>>);

struct Places {
    actors: usize,
    /// Which actor is polled; if none is, it is a payer who calls.
    polled: Option<usize>,
    /// Calls do not stand still.
    is_open: bool,
    places: Vec<Place>,
    late: Vec<Late>,
    late_so_far: usize,
}

struct Place {
    stage: Stage,
    order: Option<Order>,
    effect: Option<Effect>,
    waker: Waker,
}

/// A call that has not arrived yet, though nobody waits for it.
struct Late {
    number: usize,
    call: Call,
    effect: Effect,
}

type Effect = Box<dyn FnOnce() + Send>;

impl Board {
    pub(super) fn new(actors: usize, nodes: usize) -> Self {
        let place = |_| Place {
            stage: Stage::Elsewhere,
            order: None,
            effect: None,
            waker: Waker::noop().clone(),
        };
        Self(Arc::new(Mutex::new(Places {
            actors,
            polled: None,
            is_open: false,
            places: (0..actors + nodes).map(place).collect(),
            late: Vec::new(),
            late_so_far: 0,
        })))
    }

    /// From now on, who calls is that actor, or a payer.
    pub(super) fn polled(&self, actor: Option<usize>) {
        self.places().polled = actor;
    }

    pub(super) fn open(&self) {
        self.places().is_open = true;
    }

    pub(super) fn stage(&self, caller: Caller) -> Stage {
        self.places().of(caller).stage
    }

    /// What the call shall do that stands still. A caller in its own code goes on to its next call, and stands still
    /// there: an order that it found there would be one step more.
    pub(super) fn order(&self, caller: Caller, order: Order) {
        let mut places = self.places();
        let place = places.of(caller);
        if place.stage != Stage::Elsewhere {
            place.order = Some(order);
        }
        place.waker.wake_by_ref();
    }

    /// The caller is gone; what it has sent may arrive yet, or not.
    pub(super) fn abandon(&self, caller: Caller, arrives: bool) {
        let mut places = self.places();
        let place = places.of(caller);
        let stage = std::mem::replace(&mut place.stage, Stage::Elsewhere);
        let effect = place.effect.take();
        place.order = None;
        let call = match stage {
            Stage::Before(call @ (Call::Write(_) | Call::Alter(..))) if arrives => call,
            _ => return,
        };
        if let Some(effect) = effect {
            places.delay(call, effect);
        }
    }

    /// Sends a call that nobody waits for.
    pub(super) fn send(&self, call: Call, effect: impl FnOnce() + Send + 'static) {
        self.places().delay(call, Box::new(effect));
    }

    /// The calls that have not arrived yet, though nobody waits for them, by their numbers.
    pub(super) fn late(&self) -> Vec<(usize, Call)> {
        let places = self.places();
        let late = places.late.iter();
        late.map(|late| (late.number, late.call)).collect()
    }

    pub(super) fn arrive(&self, number: usize) {
        let mut places = self.places();
        let at = places.late.iter().position(|late| late.number == number);
        let late = places.late.remove(at.unwrap());
        drop(places);
        (late.effect)();
    }

    /// A call: stands still before its effect and after it.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        node: usize,
        call: Call,
        effect: impl FnOnce(Caller) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, is_open) = self.places().caller(node);
        if is_open {
            return Ok(effect(caller));
        }
        let outcome = Arc::new(Mutex::new(None));
        let effect: Effect = {
            let outcome = Arc::clone(&outcome);
            Box::new(move || *outcome.lock().unwrap() = Some(effect(caller)))
        };
        {
            let mut places = self.places();
            let place = places.of(caller);
            place.stage = Stage::Before(call);
            place.effect = Some(effect);
        }
        let _standing = Standing {
            board: self,
            caller,
        };
        let order = self.stand_still(caller).await;
        let effect = self.places().of(caller).effect.take().unwrap();
        match order {
            Order::GoOn | Order::LoseReply => effect(),
            Order::Fail => {}
            Order::Delay => self.places().delay(call, effect),
        }
        let failed = order != Order::GoOn;
        self.places().of(caller).stage = Stage::After { call, failed };
        self.stand_still(caller).await;
        match outcome.lock().unwrap().take() {
            Some(answer) if !failed => Ok(answer),
            _ => Err(lost()),
        }
    }

    async fn stand_still(&self, caller: Caller) -> Order {
        poll_fn(|context| {
            let mut places = self.places();
            if places.is_open {
                return Poll::Ready(Order::GoOn);
            }
            let place = places.of(caller);
            match place.order.take() {
                Some(order) => Poll::Ready(order),
                None => {
                    place.waker = context.waker().clone();
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap()
    }
}

/// A call that has not come to its end.
struct Standing<'a> {
    board: &'a Board,
    caller: Caller,
}

/// The caller goes on. If it has waited too long, what it has sent arrives later.
impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.board.abandon(self.caller, true);
    }
}

impl Places {
    fn delay(&mut self, call: Call, effect: Effect) {
        self.late_so_far += 1;
        self.late.push(Late {
            number: self.late_so_far,
            call,
            effect,
        });
    }

    fn caller(&self, node: usize) -> (Caller, bool) {
        let payer = Caller::Payer(node);
        (self.polled.map_or(payer, Caller::Actor), self.is_open)
    }

    fn of(&mut self, caller: Caller) -> &mut Place {
        let number = match caller {
            Caller::Actor(number) => number,
            Caller::Payer(node) => self.actors + node,
        };
        &mut self.places[number]
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board")
    }
}

fn lost() -> StoreError {
    StoreError::new("stepped", StoreErrorKind::Unavailable, "the test says so")
}
