//! The environment variables and the arguments of a guest.
//!
//! A program gets those of its request, some thirty strings. Many programs never look at them, so they
//! are put together when the guest first asks.

use std::sync::Arc;

use wasmtime::component::HasData;
use wasmtime_wasi::{p2, p3};

/// What a program is told.
pub(crate) struct ProgramVariables {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) arguments: Vec<String>,
}

/// What a guest is told once it asks.
pub(crate) enum GuestVariables {
    /// The variables of its function's settings, and no arguments.
    Settings(Arc<[(String, String)]>),
    /// Those of one call.
    Later(Box<dyn FnOnce() -> ProgramVariables + Send>),
    Told(ProgramVariables),
}

impl GuestVariables {
    fn environment(&mut self) -> &[(String, String)] {
        match self {
            Self::Settings(environment) => environment,
            Self::Later(_) | Self::Told(_) => &self.of_program().environment,
        }
    }

    fn arguments(&mut self) -> &[String] {
        match self {
            Self::Settings(_) => &[],
            Self::Later(_) | Self::Told(_) => &self.of_program().arguments,
        }
    }

    fn of_program(&mut self) -> &ProgramVariables {
        let nothing = ProgramVariables { environment: Vec::new(), arguments: Vec::new() };
        *self = match std::mem::replace(self, Self::Told(nothing)) {
            Self::Later(tell) => Self::Told(tell()),
            told => told,
        };
        match self {
            Self::Told(variables) => variables,
            Self::Settings(_) | Self::Later(_) => unreachable!("just told"),
        }
    }
}

/// The interface of components, in both versions.
pub(in crate::host) struct Variables;

impl HasData for Variables {
    type Data<'a> = &'a mut GuestVariables;
}

impl p2::bindings::cli::environment::Host for GuestVariables {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.environment().to_vec())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.arguments().to_vec())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl p3::bindings::cli::environment::Host for GuestVariables {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.environment().to_vec())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.arguments().to_vec())
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

/// The strings of one kind, each with the byte that ends it.
pub(super) struct Strings {
    /// Where each begins.
    pub(super) starts: Vec<u32>,
    pub(super) bytes: Vec<u8>,
}

impl Strings {
    fn of<'a>(texts: impl Iterator<Item = [&'a str; 3]>) -> Self {
        let mut strings = Self { starts: Vec::new(), bytes: Vec::new() };
        for parts in texts {
            strings.starts.push(number(strings.bytes.len()));
            parts.iter().for_each(|part| strings.bytes.extend_from_slice(part.as_bytes()));
            strings.bytes.push(0);
        }
        strings
    }
}

pub(super) fn environment(variables: &mut GuestVariables) -> Strings {
    let variables = variables.environment().iter();
    Strings::of(variables.map(|(name, value)| [name.as_str(), "=", value.as_str()]))
}

pub(super) fn arguments(variables: &mut GuestVariables) -> Strings {
    Strings::of(variables.arguments().iter().map(|argument| [argument.as_str(), "", ""]))
}

/// Saturates where the address space of a guest ends: writing there fails.
pub(super) fn number(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_ask_is_not_told() {
        let tell = || panic!("nobody has asked");
        drop(GuestVariables::Later(Box::new(tell)));
    }

    #[test]
    fn a_program_is_told_the_same_each_time() {
        let tell = || ProgramVariables {
            environment: vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), String::new())],
            arguments: vec!["p".to_owned()],
        };
        let mut variables = GuestVariables::Later(Box::new(tell));
        for _ in 0..2 {
            let Strings { starts, bytes } = environment(&mut variables);
            assert_eq!(
                (starts.as_slice(), bytes.as_slice()),
                ([0, 4].as_slice(), &b"A=1\0B=\0"[..])
            );
            assert_eq!(arguments(&mut variables).bytes, b"p\0");
        }
    }

    #[test]
    fn a_guest_that_serves_http_has_the_variables_of_its_settings() {
        let mut variables = GuestVariables::Settings([("A".to_owned(), "1".to_owned())].into());
        assert_eq!(environment(&mut variables).bytes, b"A=1\0");
        assert!(arguments(&mut variables).starts.is_empty());
    }
}
