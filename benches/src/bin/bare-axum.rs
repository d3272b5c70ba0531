//! The yardstick: what an axum server costs that does nothing but say hello.
//!
//! `cargo run --release -p benches --bin bare-axum -- --listen 127.0.0.1:8000`. The load harness
//! starts it by itself. It is written as an ordinary user of axum would write it.

use std::net::SocketAddr;

use axum::{Router, routing::get, serve::ListenerExt as _};
use clap::Parser;
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(about = "A bare axum server that answers hello on every path")]
struct Cli {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let app = Router::new().route("/", get(hello));
    let listener = TcpListener::bind(cli.listen).await?.tap_io(|stream| {
        // Costs latency alone when it fails.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

async fn hello() -> &'static str {
    "hello from axum\n"
}
