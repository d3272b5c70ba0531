//! Lists, as the command line prints them.

use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::cli::{
    client::{Answer, Client},
    failure::Failure,
    output::{Output, print, table},
};

impl Client {
    /// Prints a list to its end: as JSON a page at a time, as text in one table.
    pub(crate) async fn print_list<T: DeserializeOwned>(
        &self,
        (path, query): (&str, &str),
        output: Output,
        head: &[&str],
        rows_of: impl Fn(T) -> Vec<Vec<String>>,
    ) -> Result<ExitCode, Failure> {
        let mut rows = Vec::new();
        let each = |answer: &Answer| match output {
            Output::Json => answer.print_json(),
            Output::Text => {
                rows.extend(rows_of(answer.parse()?));
                Ok(())
            }
        };
        self.pages(path, query, each).await?;
        if output == Output::Text {
            print(table(head, &rows).as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
