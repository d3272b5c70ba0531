//! May this request come in?

pub(crate) mod clients;
pub(crate) mod in_flight;
pub(crate) mod load_shed;
mod sync;

use std::sync::Arc;

use crate::{
    edge::admission::{
        clients::{Client, ClientPermit},
        in_flight::{InFlight, RequestPermit},
    },
    problem::Problem,
};

/// What a request holds until the body of its response has ended.
#[derive(Debug)]
pub(crate) struct CallPermit {
    _request: RequestPermit,
    _client: Option<ClientPermit>,
    /// The other requests that its client had in flight when it came.
    pub(crate) others: usize,
}

impl CallPermit {
    /// A permit for a request of `client`, or the answer to it. Requests whose client is not known
    /// have only the node's limit.
    pub(crate) fn acquire(
        in_flight: &Arc<InFlight>,
        client: Option<&Arc<Client>>,
        per_client: usize,
    ) -> Result<Self, Problem> {
        let (client, others) = match client {
            Some(client) => {
                let (permit, others) =
                    Client::acquire(client).ok_or_else(|| Problem::address_limit(per_client))?;
                (Some(permit), others)
            }
            None => (None, 0),
        };
        let request = InFlight::acquire(in_flight, others).ok_or_else(Problem::overloaded)?;
        Ok(Self { _request: request, _client: client, others })
    }
}
