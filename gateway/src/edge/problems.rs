//! Problems that only the data plane reports, and those of the invoker's errors.

use crate::{
    functions::channels::plan::NotInChannel,
    invoker,
    problem::{Problem, table},
};

impl Problem {
    pub(crate) fn misdirected_request(host: &str) -> Self {
        Self::new(&table::MISDIRECTED_REQUEST)
            .detail(format!(
                "the connection was made for a host with another certificate than {host:?}"
            ))
            .hint("Send the request on a connection whose TLS handshake names its host.")
    }

    pub(crate) fn loop_detected(max: usize) -> Self {
        Self::new(&table::LOOP_DETECTED)
            .detail(format!("the request has passed {max} gateways, which is the limit"))
            .hint(
                "Check whether functions call each other in a circle. The operator can raise the \
                 setting `server.hops`.",
            )
    }

    pub(crate) fn no_route() -> Self {
        Self::new(&table::NO_ROUTE)
            .hint("Call `/f/{name}/` on any host, or the host `{name}.localhost`.")
    }

    pub(crate) fn host_without_route() -> Self {
        Self::new(&table::NO_ROUTE)
            .detail("hosts like `{name}.localhost` name functions only for clients on this machine")
            .hint(
                "Call `/f/{name}/` on any host. The operator can set `server.host_routes` to `all`.",
            )
    }

    pub(crate) fn queued_body_too_large(max: u64) -> Self {
        Self::new(&table::QUEUED_BODY_TOO_LARGE)
            .detail(format!("the body of a call that is enqueued has at most {max} bytes"))
            .hint(
                "Send less, or call without `prefer: respond-async`. The operator can raise the \
                 setting `queue.body_bytes`.",
            )
    }

    pub(crate) fn revision_urls_off(name: &str) -> Self {
        Self::new(&table::REVISION_NOT_FOUND)
            .detail(format!(
                "the revisions of the function {name:?} have no addresses of their own"
            ))
            .hint("The function's setting `revision_urls` turns them on.")
    }

    pub(crate) fn address_limit(max: usize) -> Self {
        Self::new(&table::ADDRESS_LIMIT)
            .detail(format!("one client address may have {max} requests in flight"))
            .hint(
                "Wait for answers before you send more. The operator can raise the setting \
                 `server.in_flight_per_address`, and name proxies in `server.trusted_proxies`.",
            )
            .retry_after(1)
    }

    pub(crate) fn overloaded() -> Self {
        Self::new(&table::OVERLOADED)
            .hint("Try again later. The operator can raise the setting `server.in_flight`.")
            .retry_after(1)
    }

    pub(crate) fn cpu_pressure() -> Self {
        Self::new(&table::CPU_PRESSURE)
            .detail("requests would wait too long for a thread")
            .hint("Try again later. The operator can raise the setting `server.max_lag_ms`.")
            .retry_after(1)
    }

    pub(crate) fn memory_pressure() -> Self {
        Self::new(&table::MEMORY_PRESSURE)
            .hint(
                "Try again later. The operator can raise the setting `server.memory_bytes` or the \
                 limit of the control group.",
            )
            .retry_after(1)
    }
}

impl From<NotInChannel> for Problem {
    fn from(NotInChannel { header, revisions }: NotInChannel) -> Self {
        let listed: Vec<String> = revisions.iter().map(u32::to_string).collect();
        Self::new(&table::REVISION_NOT_IN_CHANNEL)
            .detail(format!("`{header}` must be one of {}", listed.join(", ")))
            .hint("Leave the header field out, or give the revision a share in the channel.")
    }
}

impl From<invoker::Error> for Problem {
    fn from(error: invoker::Error) -> Self {
        match error {
            invoker::Error::Load(error) => Self::of_published(&error),
            invoker::Error::LoadTimeout(after) => Self::load_timeout(after),
            invoker::Error::Invoke(error) => error.into(),
        }
    }
}
