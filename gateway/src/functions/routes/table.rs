//! Finds the route of a request. The table is made anew for each change and then never changes.

use std::{collections::HashMap, ops::Range, sync::Arc};

use crate::functions::routes::{
    path::Segment,
    route::{Asked, Route, RouteHost},
};

/// All routes.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    hosts: HashMap<String, PathNode>,
    /// By what comes after the `*`: `.example.com`.
    below: HashMap<String, PathNode>,
    any: Option<PathNode>,
}

/// The routes whose paths begin in the same way.
#[derive(Debug, Default)]
struct PathNode {
    fixed: HashMap<String, PathNode>,
    one: Option<Box<PathNode>>,
    /// Those that match whatever follows, the first to try first.
    rest: Vec<Arc<Route>>,
    /// Those that match what ends here.
    here: Vec<Arc<Route>>,
}

/// The route of a request.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) route: Arc<Route>,
    /// Where in the request's path the named segments of the route's path are, in their order.
    pub(crate) parameters: Vec<Range<usize>>,
}

impl RouteTable {
    /// The table of these routes.
    pub(crate) fn new<'a>(routes: impl IntoIterator<Item = &'a Arc<Route>>) -> Self {
        let mut table = Self::default();
        for route in routes {
            let paths = match &route.host {
                RouteHost::Any => table.any.get_or_insert_default(),
                RouteHost::Host(name) => table.hosts.entry(name.clone()).or_default(),
                RouteHost::Below(suffix) => table.below.entry(suffix.clone()).or_default(),
            };
            paths.add(route);
        }
        table
    }

    /// The route of a request to a host, in the canonical form, that routes name.
    pub(crate) fn at_host(&self, host: &str, asked: Asked<'_>) -> Option<Matched> {
        if let Some(found) = self.hosts.get(host).and_then(|paths| paths.find(asked)) {
            return Some(found);
        }
        if self.below.is_empty() {
            return None;
        }
        let dots = host.match_indices('.').map(|(dot, _)| &host[dot..]);
        dots.filter_map(|suffix| self.below.get(suffix)).find_map(|paths| paths.find(asked))
    }

    /// The route of a request to any host.
    pub(crate) fn anywhere(&self, asked: Asked<'_>) -> Option<Matched> {
        self.any.as_ref()?.find(asked)
    }
}

impl PathNode {
    fn add(&mut self, route: &Arc<Route>) {
        let mut node = self;
        for segment in route.path.segments() {
            node = match segment {
                Segment::Fixed(text) => node.fixed.entry(text.clone()).or_default(),
                Segment::One(_) => node.one.get_or_insert_default(),
                Segment::Rest(_) => return insert(&mut node.rest, route),
            };
        }
        insert(&mut node.here, route);
    }

    fn find(&self, asked: Asked<'_>) -> Option<Matched> {
        let mut ones = Vec::new();
        // Canonical paths begin with a slash.
        let route = self.below(asked, 1, &mut ones)?;
        let mut parameters = ones;
        if let Some(start) = route.rest_at(asked.path) {
            parameters.push(start..asked.path.len());
        }
        Some(Matched { route: Arc::clone(route), parameters })
    }

    /// The route for what follows `at`, where a segment begins: fixed segments before named ones,
    /// and these before `*`. `ones` becomes where the named segments on the way are.
    fn below<'a>(
        &'a self,
        asked: Asked<'_>,
        at: usize,
        ones: &mut Vec<Range<usize>>,
    ) -> Option<&'a Arc<Route>> {
        let fits = |routes: &'a [Arc<Route>]| routes.iter().find(|route| route.takes(asked));
        // The slash before this segment was the path's last character, or there is none.
        let Some(rest) = asked.path.get(at..) else {
            return fits(&self.here).or_else(|| fits(&self.rest));
        };
        let end = rest.find('/').map_or(asked.path.len(), |slash| at + slash);
        if let Some(next) = self.fixed.get(&asked.path[at..end])
            && let Some(found) = next.below(asked, end + 1, ones)
        {
            return Some(found);
        }
        if let Some(next) = &self.one
            && end > at
        {
            ones.push(at..end);
            if let Some(found) = next.below(asked, end + 1, ones) {
                return Some(found);
            }
            ones.pop();
        }
        fits(&self.rest)
    }
}

/// Keeps the routes in the order in which they are tried.
fn insert(routes: &mut Vec<Arc<Route>>, route: &Arc<Route>) {
    let place = routes.partition_point(|other| other.rank() <= route.rank());
    routes.insert(place, Arc::clone(route));
}

#[cfg(test)]
mod tests {
    use gateway_api::{RouteSpec, StaticAnswer};
    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    use super::*;

    fn route(index: usize, host: Option<&str>, path: &str, priority: i32) -> Arc<Route> {
        let answer = StaticAnswer { status: 204, headers: Default::default(), body: String::new() };
        let spec = RouteSpec {
            host: host.map(ToOwned::to_owned),
            path: path.to_owned(),
            priority,
            answer: Some(answer),
            ..RouteSpec::default()
        };
        Arc::new(Route::new(&format!("r{index}"), &spec).unwrap())
    }

    fn found(table: &RouteTable, host: &str, path: &str) -> Option<(String, Vec<String>)> {
        let headers = HeaderMap::new();
        let asked = Asked { path, method: &Method::GET, headers: &headers };
        let matched = table.at_host(host, asked).or_else(|| table.anywhere(asked))?;
        let parameters = matched.parameters.into_iter().map(|range| path[range].to_owned());
        Some((matched.route.name.to_str().unwrap().to_owned(), parameters.collect()))
    }

    /// What a path pattern takes, worked out one pattern at a time: the kinds of its segments, the
    /// most certain first, and what its named segments stand for.
    fn taken(pattern: &str, path: &str) -> Option<(Vec<u8>, Vec<String>)> {
        let mut segments = path[1..].split('/');
        let (mut kinds, mut parameters) = (Vec::new(), Vec::new());
        for part in pattern[1..].split('/') {
            if part.starts_with('*') {
                kinds.push(2);
                parameters.push(segments.collect::<Vec<_>>().join("/"));
                return Some((kinds, parameters));
            }
            let segment = segments.next()?;
            if part.starts_with(':') {
                kinds.push(1);
                parameters.push(segment.to_owned());
                if segment.is_empty() {
                    return None;
                }
            } else if part == segment {
                kinds.push(0);
            } else {
                return None;
            }
        }
        segments.next().is_none().then_some((kinds, parameters))
    }

    fn path(part: &'static str) -> impl Strategy<Value = String> {
        prop::collection::vec(part, 1..5).prop_map(|parts| format!("/{}", parts.join("/")))
    }

    fn pattern() -> impl Strategy<Value = String> {
        (prop::collection::vec("[ab]|:", 0..4), any::<bool>()).prop_map(|(parts, rest)| {
            let named = |(index, part): (usize, &String)| match part.as_str() {
                ":" => format!("/:p{index}"),
                part => format!("/{part}"),
            };
            let mut pattern: String = parts.iter().enumerate().map(named).collect();
            if rest {
                pattern.push_str("/*rest");
            }
            if pattern.is_empty() { "/".to_owned() } else { pattern }
        })
    }

    proptest! {
        #[test]
        fn the_table_finds_what_a_look_at_every_route_finds(
            patterns in prop::collection::vec((pattern(), -1..2), 0..12),
            paths in prop::collection::vec(path("[ab]?"), 1..8),
        ) {
            let routes: Vec<_> = patterns
                .iter()
                .enumerate()
                .map(|(index, (pattern, priority))| route(index, None, pattern, *priority))
                .collect();
            let table = RouteTable::new(&routes);
            for path in paths {
                let all = patterns.iter().enumerate().filter_map(|(index, (pattern, priority))| {
                    let (kinds, parameters) = taken(pattern, &path)?;
                    Some((kinds, -priority, index, parameters))
                });
                let best = all.min().map(|(_, _, index, parameters)| (format!("r{index}"), parameters));
                prop_assert_eq!(found(&table, "x", &path), best, "{}", path);
            }
        }
    }

    #[test]
    fn the_closest_host_comes_first() {
        let hosts = ["*.example.com", "*.a.example.com", "b.a.example.com"];
        let routes: Vec<_> =
            (0..).zip(hosts).map(|(index, host)| route(index, Some(host), "/*all", 0)).collect();
        let table = RouteTable::new(&routes);
        let name = |host| found(&table, host, "/").map(|(name, _)| name);
        assert_eq!(name("b.a.example.com").as_deref(), Some("r2"));
        assert_eq!(name("c.a.example.com").as_deref(), Some("r1"));
        assert_eq!(name("a.example.com").as_deref(), Some("r0"));
        assert_eq!((name("example.com"), name("badexample.com")), (None, None));
    }
}
