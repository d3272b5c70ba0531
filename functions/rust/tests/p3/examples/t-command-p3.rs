//! A command of WASI 0.3. The first argument selects what it does:
//!
//! - `/`: greets;
//! - `/echo`: answers with its standard input, while it arrives;
//! - `/headless`: writes without end what is no head, whether or not anybody takes it;
//! - `/error`: returns an error;
//! - `/exit`: exits with status 200.

use wasip3::cli::{environment, exit, stdin, stdout};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::wit_stream;

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let path = environment::get_arguments().into_iter().next().unwrap_or_default();
        let (mut output, input) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            let _ = stdout::write_via_stream(input).await;
        });
        match path.as_str() {
            "/echo" => {
                output.write_all(b"Content-Type: text/plain\n\n".to_vec()).await;
                let (mut body, _ended) = stdin::read_via_stream();
                let mut buffer = Vec::with_capacity(16 * 1024);
                loop {
                    let (result, chunk) = body.read(buffer).await;
                    let StreamResult::Complete(_) = result else { break };
                    buffer = output.write_all(chunk).await;
                }
            }
            "/headless" => loop {
                output.write_all(vec![b'x'; 1_000]).await;
            },
            "/error" => return Err(()),
            "/exit" => exit::exit_with_code(200),
            _ => {
                let answer = b"Content-Type: text/plain\n\nhello from rust\n";
                output.write_all(answer.to_vec()).await;
            }
        }
        Ok(())
    }
}
