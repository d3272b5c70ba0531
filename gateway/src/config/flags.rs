//! The command line flags of settings.

/// The settings that have a flag of their own, and `--set` for all the others.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Where database, artifacts, native code and the first token are kept
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address of the data plane, which serves invocations
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address of the control plane, which serves the API, metrics and probes
    #[arg(long, value_name = "HOST:PORT")]
    pub admin_listen: Option<String>,
    /// Base of the function URLs in answers [default: http:// and the address of --listen]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Permit a control plane without TLS on an address that other machines can reach
    #[arg(long)]
    pub insecure_admin: bool,
    /// Any setting by its key, e.g. `--set limits.memory_bytes=64MiB`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
