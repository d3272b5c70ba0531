//! Whose compilation is next?
//!
//! Calls come first, because somebody waits for the answer: where several compilations may run at
//! once, deploys leave one job to them, and where there is one, they are next. Deploys take turns by
//! who uploads, so that many uploads of one do not delay the upload of another.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::error::LoadError;

/// Who uploads an artifact. Uploads that say nothing of it are one uploader's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploader(u64);

impl Uploader {
    /// The uploader with this name.
    pub fn new(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// For whom something is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Call,
    Deploy(Uploader),
}

/// The compilations that run and wait.
pub(super) struct CompileLine {
    /// Compilations that may run at once, and how many of them deploys may take.
    jobs: usize,
    deploy_jobs: usize,
    /// Calls that may wait, and deploys that may wait.
    queue: usize,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    running: usize,
    /// Those of deploys among them.
    deploys_running: usize,
    calls: VecDeque<Waiter>,
    /// Deploys by uploader. The uploader in front is next.
    deploys: VecDeque<(Uploader, VecDeque<Waiter>)>,
}

type Waiter = oneshot::Sender<()>;

/// The right to run one compilation, given up on drop.
pub(super) struct Turn<'a> {
    line: &'a CompileLine,
    claim: Claim,
}

/// A place in the line, given up on drop.
pub(super) struct Place<'a> {
    line: &'a CompileLine,
    claim: Claim,
    granted: oneshot::Receiver<()>,
}

impl CompileLine {
    pub(super) fn new(jobs: usize, queue: usize) -> Self {
        Self { jobs, deploy_jobs: jobs.saturating_sub(1).max(1), queue, line: Mutex::default() }
    }

    /// Whether nothing is being compiled, and nothing waits for it.
    pub(super) fn is_idle(&self) -> bool {
        let line = self.lock();
        line.running == 0 && line.calls.is_empty() && line.deploys.is_empty()
    }

    /// Takes a place in the line, unless too many wait already. Of the places for deploys, each
    /// uploader may take as many as it leaves free for others.
    pub(super) fn join(&self, claim: Claim) -> Result<Place<'_>, LoadError> {
        let (waiter, granted) = oneshot::channel();
        let mut line = self.lock();
        line.forget_those_who_left();
        if !self.has_job(&line, claim) && !self.has_room(&line, claim) {
            return Err(LoadError::CompilerBusy);
        }
        match claim {
            Claim::Call => line.calls.push_back(waiter),
            Claim::Deploy(uploader) => line.add_deploy(uploader, waiter),
        }
        self.start_next(&mut line);
        Ok(Place { line: self, claim, granted })
    }

    /// Whether a compilation could run at once.
    fn has_job(&self, line: &Line, claim: Claim) -> bool {
        let free = line.running < self.jobs && line.calls.is_empty();
        match claim {
            Claim::Call => free,
            Claim::Deploy(_) => {
                free && line.deploys_running < self.deploy_jobs && line.deploys.is_empty()
            }
        }
    }

    fn has_room(&self, line: &Line, claim: Claim) -> bool {
        match claim {
            Claim::Call => line.calls.len() < self.queue,
            Claim::Deploy(uploader) => {
                let own = |(one, waiters): &(Uploader, VecDeque<Waiter>)| {
                    if *one == uploader { waiters.len() } else { 0 }
                };
                let waiting: usize = line.deploys.iter().map(|(_, waiters)| waiters.len()).sum();
                let own: usize = line.deploys.iter().map(own).sum();
                own < self.queue.saturating_sub(waiting)
            }
        }
    }

    /// Starts what may run.
    fn start_next(&self, line: &mut Line) {
        while line.running < self.jobs {
            let (waiter, of_deploy) = match line.calls.pop_front() {
                Some(call) => (call, 0),
                None if line.deploys_running < self.deploy_jobs => match line.next_deploy() {
                    Some(deploy) => (deploy, 1),
                    None => return,
                },
                None => return,
            };
            // If it has left, then the next one is asked.
            if waiter.send(()).is_ok() {
                line.running += 1;
                line.deploys_running += of_deploy;
            }
        }
    }

    /// Gives a job back.
    fn end(&self, claim: Claim) {
        let mut line = self.lock();
        line.running -= 1;
        line.deploys_running -= usize::from(claim != Claim::Call);
        self.start_next(&mut line);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn add_deploy(&mut self, uploader: Uploader, waiter: Waiter) {
        match self.deploys.iter_mut().find(|(one, _)| *one == uploader) {
            Some((_, waiters)) => waiters.push_back(waiter),
            None => self.deploys.push_back((uploader, VecDeque::from([waiter]))),
        }
    }

    /// The deploy whose turn it is. Its uploader is the last to be next again.
    fn next_deploy(&mut self) -> Option<Waiter> {
        let (uploader, mut waiters) = self.deploys.pop_front()?;
        let next = waiters.pop_front();
        if !waiters.is_empty() {
            self.deploys.push_back((uploader, waiters));
        }
        next
    }

    /// Frees the places of those who do not wait any more.
    fn forget_those_who_left(&mut self) {
        self.calls.retain(|waiter| !waiter.is_closed());
        self.deploys.iter_mut().for_each(|(_, all)| all.retain(|waiter| !waiter.is_closed()));
        self.deploys.retain(|(_, waiters)| !waiters.is_empty());
    }
}

impl<'a> Place<'a> {
    /// Waits for the turn of this place.
    pub(super) async fn turn(mut self) -> Turn<'a> {
        // The line outlives its places, and grants each of them in the end.
        let granted = (&mut self.granted).await;
        debug_assert!(granted.is_ok(), "a place was lost");
        Turn { line: self.line, claim: self.claim }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Granted, but nobody took it. Nothing is left in the channel of a place that was taken.
        self.granted.close();
        if self.granted.try_recv().is_ok() {
            self.line.end(self.claim);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.end(self.claim);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Turn<'a>> + 'a>>;

    fn join(line: &CompileLine, claim: Claim) -> Waiting<'_> {
        let place = line.join(claim).unwrap_or_else(|error| panic!("{error}"));
        Box::pin(place.turn())
    }

    fn poll<'a>(waiting: &mut Waiting<'a>) -> Poll<Turn<'a>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn begins<'a>(waiting: &mut Waiting<'a>) -> Turn<'a> {
        match poll(waiting) {
            Poll::Ready(turn) => turn,
            Poll::Pending => panic!("it still waits"),
        }
    }

    fn waits(waiting: &mut Waiting<'_>) {
        assert!(poll(waiting).is_pending(), "it does not wait");
    }

    fn is_refused(line: &CompileLine, claim: Claim) -> bool {
        matches!(line.join(claim), Err(LoadError::CompilerBusy))
    }

    fn deploy(uploader: &str) -> Claim {
        Claim::Deploy(Uploader::new(uploader))
    }

    #[test]
    fn a_call_is_next_before_every_deploy() {
        let line = CompileLine::new(1, 10);
        let running = begins(&mut join(&line, deploy("a")));
        let mut deploys = [join(&line, deploy("a")), join(&line, deploy("b"))];
        let mut call = join(&line, Claim::Call);
        waits(&mut call);
        drop(running);
        deploys.iter_mut().for_each(waits);
        let turn = begins(&mut call);
        deploys.iter_mut().for_each(waits);
        drop(turn);
        drop(begins(&mut deploys[0]));
        drop(begins(&mut deploys[1]));
        drop((deploys, call));
        assert!(line.is_idle());
    }

    #[test]
    fn deploys_leave_one_of_several_jobs_to_calls() {
        let line = CompileLine::new(2, 10);
        let running = begins(&mut join(&line, deploy("a")));
        let mut deploy = join(&line, deploy("b"));
        waits(&mut deploy);
        let call = begins(&mut join(&line, Claim::Call));
        waits(&mut join(&line, Claim::Call));
        drop(running);
        let deploy = begins(&mut deploy);
        drop(call);
        drop((begins(&mut join(&line, Claim::Call)), deploy));
        assert!(line.is_idle());
    }

    #[test]
    fn uploaders_take_turns() {
        let line = CompileLine::new(1, 100);
        let mut running = begins(&mut join(&line, deploy("a")));
        let mut of_a: VecDeque<_> = (0..3).map(|_| join(&line, deploy("a"))).collect();
        let mut of_b: VecDeque<_> = (0..2).map(|_| join(&line, deploy("b"))).collect();
        for expected in ["a", "b", "a", "b", "a"] {
            drop(running);
            let next = if expected == "a" { &mut of_a } else { &mut of_b };
            running = begins(&mut next.pop_front().unwrap());
            of_a.iter_mut().chain(&mut of_b).for_each(waits);
        }
    }

    #[test]
    fn one_uploader_takes_half_of_the_places_and_calls_have_their_own() {
        let line = CompileLine::new(1, 4);
        let _running = begins(&mut join(&line, deploy("a")));
        let first = [join(&line, deploy("a")), join(&line, deploy("a"))];
        assert!(is_refused(&line, deploy("a")));
        let _second = join(&line, deploy("b"));
        assert!(is_refused(&line, deploy("b")), "one place is left, for a third uploader");
        let _third = join(&line, deploy("c"));
        assert!(is_refused(&line, deploy("d")), "all places are taken");
        let _calls: Vec<_> = (0..4).map(|_| join(&line, Claim::Call)).collect();
        assert!(is_refused(&line, Claim::Call));
        // Who leaves makes room.
        drop(first);
        drop(join(&line, deploy("d")));
    }

    #[test]
    fn a_job_that_nobody_takes_any_more_goes_to_the_next() {
        let line = CompileLine::new(1, 10);
        let running = begins(&mut join(&line, Claim::Call));
        let (left, granted) = (join(&line, Claim::Call), join(&line, deploy("a")));
        let mut next = join(&line, deploy("b"));
        drop(left);
        drop(running);
        waits(&mut next);
        // It was granted the job, and leaves before it has noticed.
        drop(granted);
        drop(begins(&mut next));
        assert!(line.is_idle());
    }
}
