//! Prints where the gateway listens and, once and to a terminal, the administrator's token.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use store::{Store, Tenant};

use crate::{config::Config, control::auth::tokens, functions::catalog::Catalog, server::Server};

/// The file with the first administrator's token, which the command line reads.
const ADMIN_TOKEN: &str = "admin.token";

/// Makes the administrator's token if its file is missing, and prints the addresses.
pub(crate) async fn announce(
    config: &Config,
    store: &Store,
    tenant: &Tenant,
    catalog: &Catalog,
    (data, control): (&Server, &Server),
) -> anyhow::Result<()> {
    let file = config.data_dir.join(ADMIN_TOKEN);
    let fresh =
        tokens::ensure_admin(store, tenant, &file).await.context("making the admin token")?;
    tracing::info!(
        functions = catalog.len(),
        data = %data.addr(),
        control = %control.addr(),
        "serving"
    );
    let mut out = std::io::stdout().lock();
    writeln!(out, "functions answer at   {}/f/NAME/", data.url())?;
    writeln!(out, "control plane at      {}/", control.url())?;
    writeln!(out, "admin token in        {}", file.display())?;
    // Not into a journal or a container's log, which others may read.
    if let Some(token) = fresh.filter(|_| out.is_terminal()) {
        writeln!(out, "admin token           {token}   (shown this once)")?;
    }
    Ok(())
}
