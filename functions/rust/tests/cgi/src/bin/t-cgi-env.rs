//! Answers with its environment variables, sorted, one `NAME=value` a line.

fn main() {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    print!("Content-Type: text/plain\n\n");
    for (name, value) in variables {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
}
