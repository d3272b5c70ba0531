//! Calls that no client waits for: the queue of asynchronous calls, and what empties it.
//!
//! A trigger is one more caller of the invoker. `call_queue` takes calls in, `worker` runs them while the
//! node has time, `attempt` is one run, `calling` calls the function, `backoff` decides what becomes of
//! it, `told` makes the calls that tell others of an end, and `delivery` sends those that go to an
//! address. `schedules` make calls by the calendar, `queues` have messages that wait for a function, and
//! `flows` call several functions one after the other.

pub(crate) mod attempt;
mod backoff;
pub(crate) mod call_queue;
pub(crate) mod calling;
pub(crate) mod delivery;
pub(crate) mod flows;
pub(crate) mod queue_metrics;
pub(crate) mod queued_call;
pub(crate) mod queues;
pub(crate) mod schedules;
mod target;
mod told;
pub(crate) mod views;
pub(crate) mod worker;
