//! Exits with code 7 before it answers.

fn main() {
    std::process::exit(7);
}
