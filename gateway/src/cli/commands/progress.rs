//! The progress of long operations: a bar while bytes are sent, a spinner for everything else.

use std::{borrow::Cow, io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::Output;

/// A bar or a spinner on standard error. Hidden if standard error is not a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows a bar, if standard error is a terminal and the output is text.
    pub(crate) fn upload(
        bytes: u64,
        message: impl Into<Cow<'static, str>>,
        output: Output,
    ) -> Self {
        if output != Output::Text || !std::io::stderr().is_terminal() {
            return Self::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        bar.set_style(style("{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes}"));
        bar.set_message(message);
        Self { bar }
    }

    /// Shows a spinner, under the same conditions.
    pub(crate) fn spinner(message: impl Into<Cow<'static, str>>, output: Output) -> Self {
        let progress = Self::upload(0, message, output);
        progress.bar.set_style(style("{spinner} {msg} ({elapsed})"));
        progress
    }

    /// Changes the message.
    pub(crate) fn say(&self, message: impl Into<Cow<'static, str>>) {
        self.bar.set_message(message);
        self.bar.tick();
    }

    pub(crate) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Replaces the bar by a spinner: all bytes are sent.
    pub(crate) fn sent(&self) {
        self.bar.set_style(style("{spinner} {msg} ({elapsed})"));
        self.bar.set_message("checking and compiling");
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// Removes the bar from the screen.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_templates() {
        let progress = Progress { bar: ProgressBar::hidden() };
        style("{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes}");
        progress.add(1);
        progress.sent();
        progress.clear();
    }

    #[test]
    fn machines_see_no_bar() {
        assert!(Progress::upload(1, "sending", Output::Json).bar.is_hidden());
    }
}
