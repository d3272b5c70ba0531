//! Answers with its environment variables, sorted, one `NAME=value` a line.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
    let mut variables = wasip2::cli::environment::get_environment();
    variables.sort();
    let lines: String = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    tests_http::text(answer, &lines);
}
