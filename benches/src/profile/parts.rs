//! To which part of the program, and to which phase of a request, a chain of callers belongs.

/// Chains of callers are divided twice: by what the innermost function is, and by the phase of the
/// request in which it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) part: &'static str,
    pub(super) phase: Phase,
}

/// What happens to the request's instance meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Made,
    Runs,
    Dropped,
    Around,
}

impl Phase {
    pub(super) const ALL: [Self; 4] = [Self::Made, Self::Runs, Self::Dropped, Self::Around];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Made => "instance made",
            Self::Runs => "guest runs",
            Self::Dropped => "instance dropped",
            Self::Around => "around it",
        }
    }
}

/// One function in a chain of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its name, demangled.
    pub(super) function: String,
    /// The file that it is in.
    pub(super) object: String,
}

impl Frame {
    fn is_kernel(&self) -> bool {
        self.object.starts_with("[kernel") || self.object.starts_with("[guest.kernel")
    }

    /// Native code of a guest: from its file, or without a name that is known.
    fn is_guest(&self) -> bool {
        self.function.starts_with("wasm[") || self.function.contains("trampolines[")
    }
}

/// System calls, by a function on the way to each.
const SYSTEM_CALLS: [(&str, &str); 10] = [
    ("_sys_send", "kernel: send"),
    ("_sys_write", "kernel: send"),
    ("_sys_recv", "kernel: receive"),
    ("_sys_read", "kernel: receive"),
    ("_sys_epoll", "kernel: epoll"),
    ("_sys_ioctl", "kernel: page scan"),
    ("_sys_futex", "kernel: futex"),
    ("exc_page_fault", "kernel: page faults"),
    ("_sys_madvise", "kernel: memory maps"),
    ("_sys_m", "kernel: memory maps"),
];

/// Functions at the end of a chain that count by themselves, whoever calls them.
const LEAVES: [(&str, &str); 14] = [
    ("memmove", "memmove and memset"),
    ("memcpy", "memmove and memset"),
    ("memset", "memmove and memset"),
    ("mi_", "malloc and free"),
    ("_mi_", "malloc and free"),
    ("malloc", "malloc and free"),
    ("calloc", "malloc and free"),
    ("realloc", "malloc and free"),
    ("free", "malloc and free"),
    ("__rust_", "malloc and free"),
    ("__rdl_", "malloc and free"),
    ("clock_gettime", "clock"),
    ("__vdso_clock_gettime", "clock"),
    ("std::time::Instant::now", "clock"),
];

/// Crates by the beginning of a path, and the part that each belongs to. The first that matches at
/// the leftmost place in a name decides.
const OWNERS: [(&str, &str); 34] = [
    ("wasmtime::runtime::component::func::host", HOST_CALLS),
    ("wasmtime_wasi", HOST_CALLS),
    ("wiggle::", HOST_CALLS),
    ("cap_rand", HOST_CALLS),
    ("rand::", HOST_CALLS),
    ("rand_core", HOST_CALLS),
    ("wasmtime_internal_fiber", "fiber"),
    ("wasmtime::runtime::fiber", "fiber"),
    ("wasmtime::runtime::component::concurrent", "wasmtime: tasks of components"),
    ("wasmtime::runtime::vm", "wasmtime: memories, tables, instances"),
    ("wasmtime::", "wasmtime: the rest"),
    ("wasmtime_", "wasmtime: the rest"),
    ("hyper::", HTTP),
    ("hyper_util::", HTTP),
    ("http::", HTTP),
    ("http_body", HTTP),
    ("httparse", HTTP),
    ("httpdate", HTTP),
    ("bytes::", HTTP),
    ("h2::", HTTP),
    ("axum", HTTP),
    ("tower", HTTP),
    ("tokio", TOKIO),
    ("mio::", TOKIO),
    ("futures_", TOKIO),
    ("gateway", "gateway"),
    ("runtime_pool", "pool"),
    ("store::", "gateway"),
    ("papaya", "gateway"),
    ("seize", "gateway"),
    ("arc_swap", "gateway"),
    ("prometheus", "metrics"),
    ("tracing", "tracing"),
    ("moka", "pool"),
];
const HOST_CALLS: &str = "host calls (wasi)";
const HTTP: &str = "HTTP (hyper, http, bytes)";
const TOKIO: &str = "tokio, mio, futures";
pub(super) const GUEST: &str = "guest's own code";
pub(super) const OTHER: &str = "other";

/// Functions that show the phase. The innermost one decides.
const PHASES: [(&str, Phase); 19] = [
    ("InstanceTemplate::cgi_input", Phase::Made),
    ("runtime_pool::host::wasi", Phase::Made),
    ("WasiCtx as core::default::Default", Phase::Made),
    ("InstanceTemplate::instantiate", Phase::Made),
    ("invocation::instance::make", Phase::Made),
    ("InstancePre<T>::instantiate_async", Phase::Made),
    ("runtime::instance::Instance::new", Phase::Made),
    ("component::instance::Instantiator", Phase::Made),
    ("store::Store<T>::new", Phase::Made),
    ("WasiCtxBuilder", Phase::Made),
    ("drop_in_place<wasmtime::runtime::store", Phase::Dropped),
    ("drop_in_place<runtime_pool::host::instance", Phase::Dropped),
    ("StoreOpaque as core::ops::drop::Drop>", Phase::Dropped),
    ("drop_in_place<runtime_pool::host::Host>", Phase::Dropped),
    ("component::func::host", Phase::Runs),
    ("runtime::func::HostFunc", Phase::Runs),
    ("runtime::func::Caller", Phase::Runs),
    ("fiber_start", Phase::Runs),
    ("wasm-call", Phase::Runs),
];

/// The place of a chain, which begins with the innermost function.
pub(super) fn place(chain: &[Frame]) -> Place {
    Place { part: part(chain), phase: phase(chain) }
}

/// The function that the cost of a chain is shown at: the innermost one that belongs to a part, not
/// to the standard library or the allocator.
pub(super) fn site(chain: &[Frame]) -> &str {
    let user = chain.iter().filter(|frame| !frame.is_kernel());
    let owned = user.clone().find(|frame| owner(frame).is_some());
    let any = owned.or_else(|| user.clone().next()).or(chain.first());
    any.map_or("unknown", |frame| &frame.function)
}

fn part(chain: &[Frame]) -> &'static str {
    let Some(leaf) = chain.first() else { return OTHER };
    if leaf.is_kernel() {
        let kernel = || chain.iter().take_while(|frame| frame.is_kernel());
        let call = SYSTEM_CALLS
            .iter()
            .find(|(name, _)| kernel().any(|frame| frame.function.contains(name)));
        return call.map_or("kernel: the rest", |(_, part)| part);
    }
    let is_leaf = |name: &str| {
        let function = leaf.function.trim_start_matches("__rustc::");
        function.starts_with(name)
            || (name.starts_with("mem") && function.starts_with("__") && function.contains(name))
    };
    if let Some((_, part)) = LEAVES.iter().find(|(name, _)| is_leaf(name)) {
        return part;
    }
    chain.iter().find_map(owner).unwrap_or(OTHER)
}

/// The part that a function belongs to by its name; none for those of the standard library.
fn owner(frame: &Frame) -> Option<&'static str> {
    if frame.is_guest() {
        return Some(GUEST);
    }
    let name = frame.function.as_str();
    let starts_word = |at: usize| {
        let before = name[..at].chars().next_back();
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
    };
    let found = OWNERS.iter().enumerate().filter_map(|(order, (owner, part))| {
        let (at, _) = name.match_indices(owner).find(|(at, _)| starts_word(*at))?;
        Some((at, order, *part))
    });
    found.min().map(|(_, _, part)| part)
}

fn phase(chain: &[Frame]) -> Phase {
    let of = |frame: &Frame| {
        if frame.is_guest() {
            return Some(Phase::Runs);
        }
        PHASES.iter().find(|(name, _)| frame.function.contains(name)).map(|(_, phase)| *phase)
    };
    chain.iter().find_map(of).unwrap_or(Phase::Around)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(functions: &[&str]) -> Vec<Frame> {
        let frame = |function: &&str| {
            let object = if function.starts_with("__x64") { "[kernel.kallsyms]" } else { "mayfly" };
            Frame { function: (*function).to_owned(), object: object.to_owned() }
        };
        functions.iter().map(frame).collect()
    }

    #[test]
    fn the_innermost_owner_decides_the_part() {
        let chain = chain(&[
            "core::ptr::drop_in_place<core::option::Option<http::uri::Uri>>",
            "<runtime_pool::host::MeteredGuest<F> as core::future::future::Future>::poll",
            "hyper::proto::h1::dispatch::Dispatcher<D,Bs,I,T>::poll",
        ]);
        assert_eq!(place(&chain), Place { part: HTTP, phase: Phase::Around });
        assert_eq!(site(&chain), chain[0].function);
    }

    #[test]
    fn the_allocator_counts_for_itself_and_shows_its_caller() {
        let chain = chain(&[
            "mi_theap_malloc_zero_aligned_at_overalloc",
            "alloc::vec::Vec<T,A>::push",
            "wasmtime_wasi_http::p2::types::HostOutgoingBody::new",
            "wasmtime_internal_fiber::unix::fiber_start",
        ]);
        assert_eq!(place(&chain), Place { part: "malloc and free", phase: Phase::Runs });
        assert_eq!(site(&chain), chain[2].function);
    }

    #[test]
    fn a_system_call_is_named_by_the_kernel_s_function() {
        let chain = chain(&["__x64_sys_sendto", "__send", "mio::net::tcp::stream::write"]);
        assert_eq!(place(&chain), Place { part: "kernel: send", phase: Phase::Around });
        assert_eq!(site(&chain), chain[2].function);
        assert_eq!(part(&[]), OTHER);
    }

    #[test]
    fn a_crate_s_name_inside_another_word_means_nothing() {
        let frame = |function: &str| Frame { function: function.into(), object: String::new() };
        assert_eq!(owner(&frame("core::store::x")), None);
        assert_eq!(owner(&frame("<gateway::edge::Edge as http::Serve>::call")), Some("gateway"));
        assert_eq!(owner(&frame("memcpy_tokio")), None);
    }
}
