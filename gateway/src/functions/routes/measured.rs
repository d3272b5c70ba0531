//! The table of routes for `cargo bench --bench routes`, which is another crate.

use std::sync::Arc;

use gateway_api::RouteSpec;
use http::{HeaderMap, Method};

use crate::functions::routes::{
    route::{Asked, Route},
    table::RouteTable,
};

/// Routes that can be made into a table and looked up.
#[derive(Debug)]
pub struct MeasuredRoutes {
    routes: Vec<Arc<Route>>,
    table: RouteTable,
    headers: HeaderMap,
}

impl MeasuredRoutes {
    /// The table of these routes.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be a route.
    pub fn new(specs: &[RouteSpec]) -> Result<Self, String> {
        let routes = specs.iter().map(|spec| Route::new("measured", spec).map(Arc::new));
        let routes = routes.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { table: RouteTable::new(&routes), routes, headers: HeaderMap::new() })
    }

    /// Makes the table anew, as a change does.
    pub fn rebuild(&mut self) {
        self.table = RouteTable::new(&self.routes);
    }

    /// Whether a route takes a GET request to this host and path, in the canonical form.
    #[must_use]
    pub fn finds(&self, host: &str, path: &str) -> bool {
        let asked = Asked { path, method: &Method::GET, headers: &self.headers };
        self.table.at_host(host, asked).or_else(|| self.table.anywhere(asked)).is_some()
    }
}
