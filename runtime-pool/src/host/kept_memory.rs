//! The memory that the host keeps for a guest: what the resources in its table take.
//!
//! A guest pays for its linear memory, but header fields, the strings of requests and the chunks of
//! bodies lie in the host. The table is measured before a call of the host whenever the calls since
//! the last time could have exceeded the limit, so that it holds however fast a guest is, and a
//! request with a few resources is never measured.

use std::{any::Any, ptr};

use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{
    FieldMap,
    p2::{
        bindings::http::types::Method,
        types::{
            HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest,
            HostOutgoingResponse,
        },
    },
    p3::{Request, Response},
};

use crate::{host::StoreLimits, limits::GuestLimits};

/// Memory of a resource of any kind: its place in the table, and its own parts of fixed size.
const RESOURCE_BYTES: usize = 256;
/// Memory of one header field besides its name and value.
const FIELD_BYTES: usize = 256;

/// Decides when the table is measured.
pub(super) struct KeptMemory {
    /// Calls until the table is measured.
    calls_left: usize,
    /// What a guest sees of its table after it has exceeded the limit: nothing. Each of its calls
    /// then fails.
    nothing: ResourceTable,
}

impl KeptMemory {
    pub(super) fn new(limits: &GuestLimits) -> Self {
        let mut nothing = ResourceTable::new();
        nothing.set_max_capacity(0);
        Self { calls_left: calls(limits.host_bytes, limits), nothing }
    }

    /// The table, for one call of the host.
    pub(super) fn table_for_call<'a>(
        &'a mut self,
        table: &'a mut ResourceTable,
        limits: &mut StoreLimits,
    ) -> &'a mut ResourceTable {
        if self.calls_left > 0 {
            self.calls_left -= 1;
            return table;
        }
        let kept = measure(table, &limits.guest);
        if limits.keep_in_host(kept).is_err() {
            return &mut self.nothing;
        }
        self.calls_left = calls(limits.guest.host_bytes - kept, &limits.guest);
        table
    }
}

/// The calls that certainly take over no more than `bytes`.
fn calls(bytes: usize, limits: &GuestLimits) -> usize {
    bytes / open_body_bytes(limits).max(1)
}

/// What an open body keeps: two chunks, and the fields of its head or its trailers. No other call
/// takes over as much.
fn open_body_bytes(limits: &GuestLimits) -> usize {
    2 * (limits.body_chunk_bytes + limits.field_bytes)
}

/// The memory that the resources of a table take, approximately and not too little.
fn measure(table: &mut ResourceTable, limits: &GuestLimits) -> usize {
    let mut fields = Fields::default();
    let mut bytes = 0;
    for resource in table.iter_mut() {
        bytes += RESOURCE_BYTES + fields.strings_and_bodies(resource, limits);
    }
    bytes + fields.bytes
}

/// The header fields that were measured. A copy shares them until one of the two changes.
#[derive(Default)]
struct Fields {
    bytes: usize,
    last: Option<*const http::HeaderMap>,
}

impl Fields {
    /// Adds the fields of a resource. Returns what else it keeps.
    fn strings_and_bodies(&mut self, resource: &(dyn Any + Send), limits: &GuestLimits) -> usize {
        let body = |open: bool| if open { open_body_bytes(limits) } else { 0 };
        if let Some(fields) = resource.downcast_ref::<FieldMap>() {
            self.add(fields);
            return 0;
        }
        if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
            self.add(&request.headers);
            let strings = [&request.authority, &request.path_with_query];
            let method = match &request.method {
                Method::Other(name) => name.capacity(),
                _ => 0,
            };
            let strings = strings.into_iter().flatten().map(String::capacity).sum::<usize>();
            return method + strings + body(request.body.is_some());
        }
        if let Some(response) = resource.downcast_ref::<HostOutgoingResponse>() {
            self.add(&response.headers);
            return body(response.body.is_some());
        }
        if let Some(request) = resource.downcast_ref::<Request>() {
            self.add(&request.headers);
            let path = request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
            let authority = request.authority.as_ref().map_or(0, |name| name.as_str().len());
            return request.method.as_str().len() + path + authority;
        }
        if let Some(response) = resource.downcast_ref::<Response>() {
            self.add(&response.headers);
        } else if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
            self.add(&response.headers);
        } else if let Some(HostFutureIncomingResponse::Ready(Ok((response, _)))) =
            resource.downcast_ref()
        {
            self.add(response.headers());
        }
        0
    }

    fn add(&mut self, fields: &http::HeaderMap) {
        // Copies that were made one after the other are next to each other.
        if self.last.replace(ptr::from_ref(fields)) == Some(ptr::from_ref(fields)) {
            return;
        }
        let names = fields.keys().map(|name| name.as_str().len()).sum::<usize>();
        let values = fields.values().map(http::HeaderValue::len).sum::<usize>();
        self.bytes += names + values + fields.len() * FIELD_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Limits, NodeMemory};

    fn full() -> FieldMap {
        let mut fields = FieldMap::new_mutable(64 << 10);
        let value = http::HeaderValue::from_bytes(&[b'v'; 60_000]).unwrap();
        fields.append_raw(http::HeaderName::from_static("x"), value).unwrap();
        fields
    }

    #[test]
    fn names_values_strings_and_open_bodies_count() {
        let limits = GuestLimits::default();
        let mut table = ResourceTable::new();
        table.push(full()).unwrap();
        let request = HostOutgoingRequest {
            method: Method::Other("M".repeat(1_000)),
            scheme: None,
            authority: Some("a".repeat(2_000)),
            path_with_query: Some("p".repeat(3_000)),
            headers: full(),
            body: None,
        };
        table.push(request).unwrap();
        let fixed = 2 * (RESOURCE_BYTES + FIELD_BYTES + 1);
        assert_eq!(measure(&mut table, &limits), 2 * 60_000 + 6_000 + fixed);
    }

    #[test]
    fn copies_that_share_their_fields_count_once() {
        let limits = GuestLimits::default();
        let mut table = ResourceTable::new();
        let fields = full();
        for _ in 0..100 {
            table.push(fields.clone()).unwrap();
        }
        assert!(measure(&mut table, &limits) < 100_000);
    }

    #[test]
    fn a_guest_beyond_the_limit_finds_nothing_in_its_table() {
        let guest = GuestLimits { host_bytes: 1 << 20, ..GuestLimits::default() };
        let limits = Limits { guest, ..Limits::default() };
        let mut limits = StoreLimits::new(&limits, NodeMemory::unlimited(), Default::default());
        let (mut kept, mut table) = (KeptMemory::new(&guest), ResourceTable::new());
        let made = (0..1_000)
            .take_while(|_| kept.table_for_call(&mut table, &mut limits).push(full()).is_ok())
            .count();
        // The last of them may have been more than a call can take over.
        assert!((17..=18).contains(&made), "{made}");
        assert!(kept.table_for_call(&mut table, &mut limits).is_empty());
        assert_eq!(limits.kept_too_much(), Some((crate::Limit::HostBytes, 1 << 20)));
    }

    #[test]
    fn a_request_with_a_few_resources_is_not_measured() {
        let guest = GuestLimits::default();
        let mut limits =
            StoreLimits::new(&Limits::default(), NodeMemory::unlimited(), Default::default());
        let (mut kept, mut table) = (KeptMemory::new(&guest), ResourceTable::new());
        for left in (0..calls(guest.host_bytes, &guest)).rev() {
            kept.table_for_call(&mut table, &mut limits);
            assert_eq!(kept.calls_left, left);
        }
    }
}
