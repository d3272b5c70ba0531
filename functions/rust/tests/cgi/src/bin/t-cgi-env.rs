//! Answers with its environment variables, sorted, one `NAME=value` a line. With the query `log`, it
//! also writes those that the gateway has made of its own header fields to its log, in one line.

fn main() {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    if std::env::var("QUERY_STRING").is_ok_and(|query| query == "log") {
        let own = variables.iter().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix("HTTP_MAYFLY_")?;
            Some(format!("{name}={}", value.to_string_lossy()))
        });
        eprintln!("{}", own.collect::<Vec<_>>().join(" "));
    }
    print!("Content-Type: text/plain\n\n");
    for (name, value) in variables {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
}
