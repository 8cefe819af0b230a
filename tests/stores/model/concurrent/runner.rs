//! Lets requests overlap as a script says, and has their history judged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Method;
use tokio::task::JoinHandle;

use super::{
    handler::Log,
    history::History,
    record::{Answered, View},
    script::{Act, BROWSER_OF_CLIENT, BROWSERS, Move, Plan, Presents, Start},
};
use crate::{
    model::world::{Cookie, World, presenting},
    support::Browser,
};

pub(crate) async fn run(world: &World, script: &[Move]) -> Result<(), String> {
    let log = Log::new(world);
    let mut runner = Runner {
        world,
        browser: Browser::new(&log.app(world)),
        log,
        jars: Arc::default(),
        under_way: Default::default(),
        done: Vec::new(),
        waits_left: WAITS_MAX,
    };
    runner.begin().await;
    for step in script {
        runner.step(step);
        world.gates.settle().await;
    }
    world.gates.open();
    let under_way = runner.under_way.iter_mut().filter_map(Option::take);
    for request in runner.done.drain(..).chain(under_way) {
        match request.await {
            Err(problem) if problem.is_panic() => return Err(problem.to_string()),
            Ok(()) | Err(_) => {}
        }
    }
    world.layer.drain().await;
    let records = runner.log.records();
    let left = runner.look_at_all().await?;
    let minted = world.minted.all();
    History::new(&records, &left, &minted).judge()
}

struct Runner<'a> {
    world: &'a World,
    log: Log,
    /// Sends what it is told; the cookies are in the jars.
    browser: Browser,
    jars: Arc<Mutex<Jars>>,
    under_way: [Option<JoinHandle<()>>; BROWSER_OF_CLIENT.len()],
    done: Vec<JoinHandle<()>>,
    waits_left: usize,
}

#[derive(Default)]
struct Jars {
    of_browser: [Option<String>; BROWSERS],
    handed_out: Vec<String>,
}

impl Runner<'_> {
    /// Each browser gets a session; then the gates are shut.
    async fn begin(&mut self) {
        for client in 0..BROWSER_OF_CLIENT.len() {
            self.start(&Start {
                client,
                presents: Presents::Own,
                plan: Plan {
                    acts: vec![Act::Mark],
                    status: 200,
                    ..Plan::default()
                },
            });
            if let Some(request) = self.under_way[client].take() {
                request.await.unwrap();
            }
        }
        self.world.gates.shut();
    }

    fn step(&mut self, step: &Move) {
        match step {
            Move::Start(start) => self.start(start),
            Move::GoOn(which) => self.world.gates.open_one(*which),
            Move::Abort { client } => {
                if let Some(request) = &self.under_way[*client] {
                    request.abort();
                }
            }
            Move::Wait if self.waits_left == 0 => {}
            Move::Wait => {
                self.waits_left -= 1;
                self.world.clock.advance(WAIT);
            }
        }
    }

    fn start(&mut self, start: &Start) {
        let client = start.client;
        let under_way = self.under_way[client].as_ref();
        if under_way.is_some_and(|request| !request.is_finished()) {
            return;
        }
        let jar = BROWSER_OF_CLIENT[client];
        let presented = {
            let jars = self.jars.lock().unwrap();
            match start.presents {
                Presents::Old(which) if !jars.handed_out.is_empty() => {
                    jars.handed_out.get(which % jars.handed_out.len()).cloned()
                }
                Presents::Own | Presents::Old(_) => jars.of_browser[jar].clone(),
            }
        };
        let keeps = matches!(start.presents, Presents::Own).then_some(jar);
        let (_, request) = self.send(client, presented, start.plan.clone(), keeps);
        self.done.extend(self.under_way[client].replace(request));
    }

    /// Sends a request; its answer is noted, and kept in a jar, when it comes.
    fn send(
        &self,
        client: usize,
        presented: Option<String>,
        plan: Plan,
        keeps: Option<usize>,
    ) -> (usize, JoinHandle<()>) {
        let headers = presenting(presented.as_slice());
        let number = self.log.start(client, presented, plan);
        let (log, browser) = (self.log.clone(), self.browser.clone());
        let jars = Arc::clone(&self.jars);
        let request = async move {
            let path = format!("/{number}");
            let answer = browser.send_with(Method::POST, &path, headers).await;
            let cookie = Cookie::of(&answer).unwrap();
            jars.lock().unwrap().keep(&cookie, keeps);
            log.answer(number, |at| Answered {
                at,
                status: answer.status.as_u16(),
                cookie,
            });
        };
        (number, tokio::spawn(request))
    }

    /// What can be reached in the end, by each id that was ever made.
    async fn look_at_all(&self) -> Result<BTreeMap<String, View>, String> {
        let mut left = BTreeMap::new();
        for id in self.world.minted.all() {
            let stored = self.world.stored(&id).await?.is_some();
            let plan = Plan {
                status: 200,
                ..Plan::default()
            };
            let (number, request) = self.send(0, Some(id.clone()), plan, None);
            request.await.map_err(|error| error.to_string())?;
            let view = self.log.record(number).view().cloned();
            if stored != view.is_some() {
                return Err(format!("stored is {stored}, and what is shown is {view:?}"));
            }
            left.extend(view.map(|view| (id, view)));
        }
        Ok(left)
    }
}

impl Jars {
    fn keep(&mut self, cookie: &Cookie, jar: Option<usize>) {
        let id = match cookie {
            Cookie::Keep => return,
            Cookie::Set { id, .. } => Some(id.clone()),
            Cookie::Remove => None,
        };
        self.handed_out.extend(id.clone());
        if let Some(jar) = jar {
            self.of_browser[jar] = id;
        }
    }
}

/// More than a tenth of the idle time, and all of them less than the idle time.
const WAIT: Duration = Duration::from_secs(120);
const WAITS_MAX: usize = 5;
