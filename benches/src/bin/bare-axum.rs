//! The yardstick: the cost of an axum server that only says hello.
//!
//! `cargo run --release -p benches --bin bare-axum -- --listen 127.0.0.1:8000`. The load harness
//! starts it by itself. The code is what an ordinary user of axum would write.

use std::net::SocketAddr;

use axum::{Router, routing::get, serve::ListenerExt as _};
use clap::Parser;
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(about = "A bare axum server that answers hello on every path")]
struct Cli {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let app = Router::new().route("/", get(hello));
    let listener = TcpListener::bind(cli.listen).await?.tap_io(|stream| {
        // A failure costs only latency.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

async fn hello() -> &'static str {
    "hello from axum\n"
}
