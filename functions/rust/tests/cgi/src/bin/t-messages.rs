//! Takes messages of a queue, one in a request or a batch, and writes each to its log in a line:
//! `message ID attempt N: BODY`.
//!
//! What a body contains decides what becomes of its message: `fail` fails it in each attempt, `once` in the
//! first one, `final` answers 400, `slow` takes four seconds, `pause` half a second.

use std::{
    env,
    io::{self, Read as _},
    thread, time,
};

/// A message: its id, the number of its attempt, and its body.
type Message = (String, u32, String);

fn main() -> io::Result<()> {
    let mut body = String::new();
    io::stdin().lock().read_to_string(&mut body)?;
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_batch = env::var("HTTP_MAYFLY_MESSAGES").is_ok();
    let messages = if is_batch {
        records(&body)
    } else {
        let attempt = variable("HTTP_MAYFLY_ATTEMPT").parse().unwrap_or_default();
        vec![(variable("HTTP_MAYFLY_MESSAGE_ID"), attempt, body)]
    };
    for (id, attempt, body) in &messages {
        eprintln!("message {id} attempt {attempt}: {body}");
    }
    let any = |word: &str| messages.iter().any(|(_, _, body)| body.contains(word));
    if any("slow") {
        thread::sleep(time::Duration::from_secs(4));
    } else if any("pause") {
        thread::sleep(time::Duration::from_millis(500));
    }
    let has_failed = |(_, attempt, body): &&Message| {
        body.contains("fail") || (body.contains("once") && *attempt == 1)
    };
    let failed: Vec<&Message> = messages.iter().filter(has_failed).collect();
    if any("final") {
        print!("Status: 400 Bad Request\n");
    } else if !is_batch && !failed.is_empty() {
        print!("Status: 500 Internal Server Error\n");
    }
    print!("Content-Type: application/json\n\n");
    let items: Vec<String> =
        failed.iter().map(|(id, ..)| format!("{{\"itemIdentifier\":\"{id}\"}}")).collect();
    println!("{{\"batchItemFailures\":[{}]}}", items.join(","));
    Ok(())
}

/// The messages of an event. Members come in the order of their names, and bodies have no quotes.
fn records(event: &str) -> Vec<Message> {
    let mut rest = event;
    let mut next = |member: &str| {
        let begin = format!("\"{member}\":\"");
        let (_, after) = rest.split_once(&*begin)?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some(value.to_owned())
    };
    let mut messages = Vec::new();
    while let Some(attempt) = next("ApproximateReceiveCount") {
        let (Some(body), Some(id)) = (next("body"), next("messageId")) else { break };
        messages.push((id, attempt.parse().unwrap_or_default(), body));
    }
    messages
}
