//! tokio's semaphore as its documentation promises it, made of loom's primitives: waiters get
//! permits in the order of their arrival, and the permit of a waiter that was dropped goes to the
//! next.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use loom::sync::{Mutex, MutexGuard};

/// Never returned: nothing closes the semaphore.
#[derive(Debug)]
pub(crate) struct Closed;

#[derive(Default)]
struct State {
    free: usize,
    tickets: u64,
    waiting: VecDeque<(u64, Waker)>,
    /// Waiters that were given a permit and have not taken it yet.
    handed: Vec<u64>,
}

pub(crate) struct Semaphore(Mutex<State>);

pub(crate) struct Permit<'a>(&'a Semaphore);

/// A wait for a permit.
pub(crate) struct Acquire<'a> {
    semaphore: &'a Semaphore,
    ticket: Option<u64>,
}

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self(Mutex::new(State { free: permits, ..State::default() }))
    }

    pub(crate) fn available_permits(&self) -> usize {
        self.state().free
    }

    pub(crate) fn try_acquire(&self) -> Result<Permit<'_>, Closed> {
        let mut state = self.state();
        state.free = state.free.checked_sub(1).ok_or(Closed)?;
        Ok(Permit(self))
    }

    pub(crate) fn acquire(&self) -> Acquire<'_> {
        Acquire { semaphore: self, ticket: None }
    }

    pub(crate) fn add_permits(&self, count: usize) {
        for _ in 0..count {
            let mut state = self.state();
            let Some((ticket, waker)) = state.waiting.pop_front() else {
                state.free += 1;
                continue;
            };
            state.handed.push(ticket);
            drop(state);
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Permit<'_> {
    pub(crate) fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let semaphore = self.semaphore;
        let mut state = semaphore.state();
        match self.ticket {
            None => {
                if let Some(left) = state.free.checked_sub(1) {
                    state.free = left;
                    return Poll::Ready(Ok(Permit(semaphore)));
                }
                state.tickets += 1;
                self.ticket = Some(state.tickets);
                let entry = (state.tickets, context.waker().clone());
                state.waiting.push_back(entry);
            }
            Some(ticket) => {
                if let Some(at) = state.handed.iter().position(|handed| *handed == ticket) {
                    state.handed.swap_remove(at);
                    self.ticket = None;
                    return Poll::Ready(Ok(Permit(semaphore)));
                }
                let waiting = state.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket);
                waiting.expect("it waits or has a permit").1 = context.waker().clone();
            }
        }
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.semaphore.state();
        state.waiting.retain(|(waiting, _)| *waiting != ticket);
        if let Some(at) = state.handed.iter().position(|handed| *handed == ticket) {
            state.handed.swap_remove(at);
            drop(state);
            self.semaphore.add_permits(1);
        }
    }
}
