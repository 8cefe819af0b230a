//! One run of a scenario, step by step.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
};

use super::{
    actors::{Act, Actor},
    board::{Board, Call, Caller, Order, Stage},
    caches::{Flaw, at_once},
    digests::Past,
    footprint::{Access, Footprint},
    judge::{Caches, Judge},
    nodes::Nodes,
    scenario::{Kinds, Scenario, Wrong},
    sheet::{SESSION, Sheet},
};

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A request, or the payer of a node, goes on to the next place.
    Go(Caller, Order),
    /// A request is dropped. What it has sent may arrive yet, or not.
    Abandon { actor: usize, arrives: bool },
    /// A cache loses what it has.
    Lose(usize),
    /// A node is told of the next write.
    Tell(usize),
    /// A call arrives that nobody waits for.
    Arrive(usize),
    /// Time passes: as much as the cache is left alone for, or a write is in doubt for.
    Wait(Pause),
    /// All is done, and looked at.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    Short,
    Long,
}

impl Step {
    /// Whether they are of one caller, of whom only one can come next.
    pub(super) fn is_of_same(self, other: Self) -> bool {
        let caller = |step| match step {
            Self::Go(caller, _) => Some(caller),
            Self::Abandon { actor, .. } => Some(Caller::Actor(actor)),
            _ => None,
        };
        self == other || (caller(self).is_some() && caller(self) == caller(other))
    }
}

pub(super) struct World {
    pub(super) judge: Judge,
    pub(super) board: Board,
    pub(super) sheet: Sheet,
    pub(super) nodes: Nodes,
    pub(super) actors: Vec<Running>,
    pub(super) past: Past,
    kinds: Kinds,
    caches: Caches,
    /// Nothing is deliberately wrong.
    is_sound: bool,
    pub(super) troubles_left: usize,
    pub(super) waits_left: usize,
    /// By node.
    is_troubled: Vec<bool>,
    is_over: bool,
    /// Its clock stands still but for the steps that move it.
    pub(super) runtime: Rc<Runtime>,
}

pub(super) struct Running {
    act: Act,
    pub(super) node: usize,
    pub(super) has_begun: bool,
    /// `None` when it is done.
    pub(super) future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        // Where nothing fails, no time passes and nothing goes on by itself.
        let runtime = match scenario.troubles {
            0 => quiet_runtime(),
            _ => runtime(),
        };
        let guard = runtime.enter();
        let board = Board::new(scenario.acts.len(), scenario.nodes);
        let sheet = Sheet::new();
        let judge = Judge::new(sheet.clone(), scenario.caches, scenario.nodes);
        let nodes = Nodes::new(scenario, &board, &sheet);
        let actor = |(number, (act, node)): (usize, &(Act, usize))| {
            let actor = Actor {
                number,
                node: *node,
                store: nodes.stores[*node].clone(),
                judge: judge.clone(),
            };
            Running {
                act: *act,
                node: *node,
                has_begun: false,
                future: Some(Box::pin(actor.run(*act))),
            }
        };
        let actors = scenario.acts.iter().enumerate().map(actor).collect();
        drop(guard);
        Self {
            judge,
            board,
            sheet,
            nodes,
            actors,
            past: Past::new(scenario.acts.len()),
            kinds: scenario.kinds,
            caches: scenario.caches,
            is_sound: scenario.wrong == Wrong::Cache(Flaw::None),
            troubles_left: scenario.troubles,
            waits_left: scenario.waits,
            is_troubled: vec![false; scenario.nodes],
            is_over: false,
            runtime,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What can happen next, always in the same order.
    ///
    /// A step that nothing can see, now or later, is the only one: to try others before it is to no purpose.
    pub(super) fn steps(&self) -> Vec<Step> {
        if let Some(unseen) = self.unseen() {
            return vec![unseen];
        }
        let mut steps = Vec::new();
        for (number, actor) in self.actors.iter().enumerate() {
            if actor.future.is_some() {
                let caller = Caller::Actor(number);
                steps.push(Step::Go(caller, Order::GoOn));
                self.troubles_of(caller, &mut steps);
                if actor.has_begun {
                    self.abandons_of(number, &mut steps);
                }
            }
        }
        for node in 0..self.nodes.stores.len() {
            let payer = Caller::Payer(node);
            if self.board.stage(payer) != Stage::Elsewhere {
                steps.push(Step::Go(payer, Order::GoOn));
                self.troubles_of(payer, &mut steps);
            }
            if self.judge.has_message(node) {
                steps.push(Step::Tell(node));
            }
        }
        if self.may(Kinds::Losses) {
            steps.extend((0..self.nodes.caches.len()).map(Step::Lose));
        }
        let late = self.board.late();
        steps.extend(late.iter().map(|(number, _)| Step::Arrive(*number)));
        if self.is_troubled() && self.waits_left > 0 {
            steps.push(Step::Wait(Pause::Short));
            // Until then, every write has arrived.
            if !late.iter().any(|(_, call)| matches!(call, Call::Write(_))) {
                steps.push(Step::Wait(Pause::Long));
            }
        }
        if self.actors.iter().all(|actor| actor.future.is_none()) {
            steps.push(Step::End);
        }
        steps
    }

    fn unseen(&self) -> Option<Step> {
        let is_quiet = self.troubles_left == 0 && !self.is_troubled();
        let mut steps = (0..self.actors.len())
            .filter(|number| is_quiet && self.actors[*number].future.is_some())
            .map(|number| Step::Go(Caller::Actor(number), Order::GoOn));
        steps.find(|step| self.footprint(*step).is_unseen())
    }

    fn may(&self, kind: Kinds) -> bool {
        self.troubles_left > 0 && (self.kinds == Kinds::All || self.kinds == kind)
    }

    fn troubles_of(&self, caller: Caller, steps: &mut Vec<Step>) {
        if let Stage::Before(call) = self.board.stage(caller)
            && self.may(Kinds::Failures)
        {
            steps.push(Step::Go(caller, Order::Fail));
            if matches!(call, Call::Write(_) | Call::Alter(..)) {
                steps.push(Step::Go(caller, Order::LoseReply));
                steps.push(Step::Go(caller, Order::Delay));
            }
        }
    }

    fn abandons_of(&self, actor: usize, steps: &mut Vec<Step>) {
        if self.may(Kinds::Abandons) {
            let arrives = false;
            steps.push(Step::Abandon { actor, arrives });
            let stage = self.board.stage(Caller::Actor(actor));
            if let Stage::Before(Call::Write(_) | Call::Alter(..)) = stage {
                let arrives = true;
                steps.push(Step::Abandon { actor, arrives });
            }
        }
    }

    pub(super) fn footprint(&self, step: Step) -> Footprint {
        match step {
            Step::Go(caller, order) => self.footprint_of(caller, order),
            Step::Abandon { actor, .. } => Footprint {
                is_trouble: true,
                ..Footprint::of_node(self.actors[actor].node, Access::Write)
            },
            Step::Lose(cache) => Footprint {
                is_trouble: true,
                ..Footprint::of_effect(Call::Alter(cache, "lose"))
            },
            Step::Tell(node) => Footprint {
                is_due: true,
                ..Footprint::of_effect(Call::Alter(node, "remove"))
            },
            Step::Arrive(number) => {
                let mut late = self.board.late().into_iter();
                let (_, call) = late.find(|(other, _)| *other == number).unwrap();
                Footprint::of_effect(call)
            }
            Step::Wait(_) | Step::End => Footprint::ALL,
        }
    }

    fn footprint_of(&self, caller: Caller, order: Order) -> Footprint {
        let node = self.node_of(caller);
        let act = match caller {
            Caller::Actor(number) => Some(self.actors[number].act),
            Caller::Payer(_) => None,
        };
        // Once something has failed, what a node remembers may change with each answer.
        let local = if self.is_troubled[node] {
            Access::Write
        } else {
            Access::Read
        };
        match self.board.stage(caller) {
            Stage::Elsewhere => Footprint {
                begins: act != Some(Act::Delete),
                ..Footprint::of_node(node, local)
            },
            Stage::Before(call) => Footprint {
                is_trouble: order != Order::GoOn,
                ..match order {
                    Order::GoOn | Order::LoseReply => Footprint::of_effect(call),
                    Order::Fail | Order::Delay => Footprint::default(),
                }
            },
            Stage::After { call, .. } => Footprint {
                begins: act == Some(Act::LoadTwice),
                is_due: act.is_some_and(Act::writes)
                    && matches!(call, Call::Write(_) | Call::Alter(_, "replace" | "remove")),
                ..Footprint::of_node(node, local)
            },
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        let runtime = Rc::clone(&self.runtime);
        let _guard = runtime.enter();
        self.remember(step);
        match step {
            Step::Go(caller, order) => {
                if order != Order::GoOn {
                    self.is_in_trouble(self.node_of(caller));
                }
                self.notice_failure(caller);
                self.board.order(caller, order);
                match caller {
                    Caller::Actor(number) => self.poll(number),
                    Caller::Payer(_) => pass(&runtime, Duration::ZERO),
                }
            }
            Step::Abandon { actor, arrives } => {
                self.is_in_trouble(self.actors[actor].node);
                self.board.abandon(Caller::Actor(actor), arrives);
                self.actors[actor].future = None;
            }
            Step::Lose(cache) => {
                self.troubles_left -= 1;
                self.nodes.caches[cache].lose();
            }
            Step::Tell(node) => {
                self.nodes.caches[node].is_told();
                self.judge.is_told(node);
            }
            Step::Arrive(number) => self.board.arrive(number),
            Step::Wait(pause) => {
                self.waits_left -= 1;
                self.notice_timeouts();
                pass(&runtime, pause.duration());
            }
            Step::End => self.end(&runtime),
        }
        if self.is_troubled() && !self.is_over {
            // A payer that was made comes to its first call.
            pass(&runtime, Duration::ZERO);
        }
    }

    fn is_in_trouble(&mut self, node: usize) {
        self.is_troubled[node] = true;
        self.troubles_left -= 1;
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.is_troubled.contains(&true)
    }

    fn node_of(&self, caller: Caller) -> usize {
        match caller {
            Caller::Actor(number) => self.actors[number].node,
            Caller::Payer(node) => node,
        }
    }

    fn poll(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        let begins = !actor.has_begun;
        actor.has_begun = true;
        self.board.polled(Some(number));
        let mut context = Context::from_waker(Waker::noop());
        let future = actor.future.as_mut().unwrap();
        if future.as_mut().poll(&mut context).is_ready() {
            actor.future = None;
        }
        self.board.polled(None);
        let stage = self.board.stage(Caller::Actor(number));
        assert!(
            !begins || matches!(stage, Stage::Before(_)),
            "one step at a time"
        );
    }

    /// A failure of the cache that the node is about to hear of.
    fn notice_failure(&self, caller: Caller) {
        if let Stage::After { call, failed: true } = self.board.stage(caller)
            && call.is_of_cache()
        {
            self.judge.is_cut_off(self.node_of(caller));
        }
    }

    /// Calls of the cache that are under way when time passes come too late.
    fn notice_timeouts(&self) {
        let actors = (0..self.actors.len()).map(Caller::Actor);
        let payers = (0..self.nodes.stores.len()).map(Caller::Payer);
        for caller in actors.chain(payers) {
            if let Stage::Before(call) | Stage::After { call, .. } = self.board.stage(caller)
                && call.is_of_cache()
            {
                self.judge.is_cut_off(self.node_of(caller));
            }
        }
    }

    /// Looks from each node; then lets everything arrive, be told and be paid, and looks again.
    fn end(&mut self, runtime: &Runtime) {
        self.is_over = true;
        self.board.open();
        for (number, cache) in self.nodes.caches.iter().enumerate() {
            let is_final = self.caches == Caches::Shared || !self.judge.has_message(number);
            let is_sound = self.is_sound && !self.is_troubled();
            if let (true, true, Some(copy)) = (is_sound, is_final, cache.copy()) {
                self.judge.is_left(&copy);
            }
        }
        self.look();
        for (number, _) in self.board.late() {
            self.board.arrive(number);
        }
        for node in 0..self.nodes.stores.len() {
            self.board.order(Caller::Payer(node), Order::GoOn);
            while self.judge.has_message(node) {
                self.nodes.caches[node].is_told();
                self.judge.is_told(node);
            }
        }
        if self.is_troubled() {
            for _ in 0..ROUNDS {
                pass(runtime, Pause::Long.duration());
            }
        }
        self.judge.all_is_due();
        self.look();
    }

    fn look(&self) {
        for (node, store) in self.nodes.stores.iter().enumerate() {
            let began = self.judge.begins(node);
            let answer = at_once(store.load(&SESSION)).unwrap();
            self.judge.answered(&began, answer.as_ref());
        }
    }
}

/// Requests that have not come to their end are dropped in their runtime.
impl Drop for World {
    fn drop(&mut self) {
        let _guard = self.runtime.enter();
        self.actors.clear();
    }
}

impl Call {
    fn is_of_cache(self) -> bool {
        matches!(self, Self::Get(_) | Self::Alter(..))
    }
}

impl Pause {
    const fn duration(self) -> Duration {
        match self {
            Self::Short => Duration::from_millis(1250),
            Self::Long => Duration::from_millis(10_500),
        }
    }
}

/// Lets time pass, and payers do what they can.
fn pass(runtime: &Runtime, time: Duration) {
    runtime.block_on(async {
        if !time.is_zero() {
            tokio::time::advance(time).await;
        }
        for _ in 0..TURNS {
            yield_now().await;
        }
    });
}

/// In which a payer that was woken comes to its next call.
const TURNS: usize = 3;

/// After which all debts are paid: the first may meet a cache that is left alone.
const ROUNDS: usize = 3;

fn runtime() -> Rc<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    Rc::new(builder.build().unwrap())
}

/// The same one for many runs: a request that is dropped at the end of a run leaves a payer in it, which never goes on.
fn quiet_runtime() -> Rc<Runtime> {
    const RUNS: usize = 1000;
    thread_local! {
        static PRESENT: RefCell<Vec<Rc<Runtime>>> = const { RefCell::new(Vec::new()) };
    }
    PRESENT.with_borrow_mut(|uses| {
        if uses.len() >= RUNS {
            uses.clear();
        }
        let present = uses.first().map_or_else(runtime, Rc::clone);
        uses.push(Rc::clone(&present));
        present
    })
}
