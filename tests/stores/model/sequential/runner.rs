//! Runs a script and the reference model side by side.

use std::{future::poll_fn, task::Poll, time::Duration};

use http::Method;
use tower_keep::{Timestamp, UserId, Version};

use super::{
    handler::{Desk, Notes},
    reference::Reference,
    script::{CLIENTS, Plan, Presents, Request, Step, Wait},
};
use crate::{
    model::world::{Cookie, Millis, World, presenting},
    support::{Answer, Browser},
};

pub(crate) async fn run(world: &World, script: &[Step]) -> Result<(), String> {
    let desk = Desk::new(world);
    let browser = Browser::new(&desk.app(world));
    let mut runner = Runner {
        world,
        desk,
        browsers: vec![browser; CLIENTS],
        model: Reference::default(),
        handed_out: Vec::new(),
    };
    for (number, step) in script.iter().enumerate() {
        let done = match step {
            Step::Request(request) => runner.request(request).await,
            Step::Wait(wait) => {
                runner.wait(*wait);
                Ok(())
            }
        };
        done.map_err(|problem| format!("step {number}: {problem}"))?;
    }
    let all = world.minted.all();
    runner.compare_stored(&all).await
}

struct Runner<'a> {
    world: &'a World,
    desk: Desk,
    browsers: Vec<Browser>,
    model: Reference,
    /// Every id that was ever in an answer.
    handed_out: Vec<String>,
}

impl Runner<'_> {
    async fn request(&mut self, request: &Request) -> Result<(), String> {
        let browser = &self.browsers[request.client];
        let mut presented: Vec<String> = browser.id().map(Into::into).into_iter().collect();
        match request.presents {
            Presents::Own => {}
            Presents::Old(which) => presented = nth(&self.handed_out, which),
            Presents::OwnAndOld(which) => presented.extend(nth(&self.handed_out, which)),
        }
        let versions_before = self.versions(&presented).await?;
        let made_before = self.world.minted.count();
        let browser = &mut self.browsers[request.client];
        let path = self.desk.lay(&request.plan);
        let answer = match request.presents {
            Presents::Own => polled(request.polls, browser.send(Method::POST, &path)).await,
            Presents::Old(_) | Presents::OwnAndOld(_) => {
                let headers = presenting(&presented);
                polled(
                    request.polls,
                    browser.send_with(Method::POST, &path, headers),
                )
                .await
            }
        };
        self.world.layer.drain().await;
        let made = self.world.minted.since(made_before);
        let mut ids = presented.clone();
        ids.extend(made.iter().cloned());
        let expected = self.predict(&request.plan, &presented, made)?;
        if let Some(answer) = answer {
            compare_answer(&answer, request.plan.status, &expected)?;
            if let Cookie::Set { id, .. } = expected {
                self.handed_out.push(id);
            }
        }
        if request.plan.ops.is_empty() && !request.plan.logout {
            let versions = self.versions(&presented).await?;
            same("what a reader has written", &versions, &versions_before)?;
        }
        self.compare_stored(&ids).await
    }

    async fn versions(&self, ids: &[String]) -> Result<Vec<Option<Version>>, String> {
        let mut versions = Vec::new();
        for id in ids {
            let stored = self.world.stored(id).await?;
            versions.push(stored.map(|record| record.version));
        }
        Ok(versions)
    }

    /// What the model says of as much of the plan as was carried out.
    fn predict(
        &mut self,
        plan: &Plan,
        presented: &[String],
        made: Vec<String>,
    ) -> Result<Cookie, String> {
        let Notes {
            steps,
            before,
            after,
            finished,
        } = self.desk.notes();
        let mut pending = self.model.request(presented, made, self.world.now());
        if plan.logout && steps > 0 {
            pending.logout();
        }
        if let Some(before) = before {
            same("what is loaded", &before, &pending.view())?;
        }
        for op in plan
            .ops
            .iter()
            .take(steps - usize::from(plan.logout && steps > 0))
        {
            pending.apply(*op)?;
        }
        if let Some(after) = after {
            same("what the handler has made of it", &after, &pending.view())?;
        }
        pending.end(finished && plan.status < 500)
    }

    /// Whether the store holds under these ids what the model holds.
    async fn compare_stored(&self, ids: &[String]) -> Result<(), String> {
        let now = self.world.now();
        for id in ids {
            let stored = self.world.stored(id).await?.map(|record| {
                let times = [
                    record.created_at,
                    record.expires_at,
                    record.absolute_deadline,
                ];
                let user = record.user.as_ref().map(UserId::as_str).map(str::to_owned);
                (user, times.map(Timestamp::as_millis))
            });
            let expected = self.model.live(id, now);
            let expected = expected.map(|live| {
                (
                    live.user.clone(),
                    [live.created, live.expires, live.absolute],
                )
            });
            same("what is stored", &stored, &expected)?;
        }
        Ok(())
    }

    fn wait(&self, wait: Wait) {
        let duration = match wait {
            Wait::Seconds(secs) => Some(Duration::from_secs(secs)),
            Wait::Until {
                client,
                event,
                millis_before,
            } => {
                let now = self.world.now();
                let id = self.browsers[client].id().unwrap_or_default();
                let time = self.model.time_of(event, id, now);
                let left = |time: Millis| u64::try_from(time - millis_before - now).ok();
                time.and_then(left).map(Duration::from_millis)
            }
        };
        self.world.clock.advance(duration.unwrap_or_default());
    }
}

/// Polls a request at most so many times; then its client goes away.
async fn polled<F: Future>(polls: Option<usize>, request: F) -> Option<F::Output> {
    let mut request = Box::pin(request);
    let mut left = polls;
    poll_fn(|cx| {
        if left == Some(0) {
            return Poll::Ready(None);
        }
        left = left.map(|left| left - 1);
        match request.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == Some(0) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn compare_answer(answer: &Answer, status: u16, expected: &Cookie) -> Result<(), String> {
    same("the status", &answer.status.as_u16(), &status)?;
    let cookie = Cookie::of(answer)?;
    same("the cookie", &cookie, expected)?;
    same("Vary", &answer.header("vary"), &Some("Cookie"))?;
    let private = (cookie != Cookie::Keep).then_some("no-cache, private");
    same("Cache-Control", &answer.header("cache-control"), &private)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what} is {found:?}, and should be {expected:?}")),
    }
}

fn nth(ids: &[String], which: usize) -> Vec<String> {
    match ids.len() {
        0 => Vec::new(),
        count => vec![ids[which % count].clone()],
    }
}
