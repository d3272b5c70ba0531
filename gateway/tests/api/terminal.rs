//! A terminal, as programs see one.

use std::process::Command;

/// Makes a pseudo-terminal, runs the arguments in it, and copies what they print.
const RUN: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
os.write(terminal, os.environ.get('TYPED', '').encode())
while True:
    try:
        said = os.read(terminal, 65536)
    except OSError:
        break
    if not said:
        break
    os.write(1, said)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
";

/// A command that runs `program` in a terminal of its own, in which somebody types `typed`. The
/// program ends with the command.
pub(crate) fn in_a_terminal(program: &str, typed: &str) -> Command {
    let mut command = Command::new("python3");
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TYPED", typed);
    command.args(["-c", RUN, "setpriv", "--pdeathsig", "KILL", "--", program]);
    command
}
