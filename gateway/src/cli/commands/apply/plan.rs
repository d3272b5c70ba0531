//! A plan in words.

use gateway_api::{PlanStepView, PlanView};
use serde_json::Value;

use crate::cli::output::{plain, table};

/// Characters of a value that are shown.
const SHOWN: usize = 48;

const HEAD: [&str; 6] = ["ACTION", "KIND", "NAME", "CHANGES", "FROM", "TO"];

/// The actions of a plan, as it is told before it is applied and afterwards.
const ACTIONS: [(&str, &str, &str); 4] = [
    ("create", "to create", "created"),
    ("change", "to change", "changed"),
    ("delete", "to delete", "deleted"),
    ("keep", "unchanged", "unchanged"),
];

/// A table of all steps that change something; empty if none does.
pub(super) fn changes(steps: &[PlanStepView]) -> String {
    let rows: Vec<Vec<String>> =
        steps.iter().filter(|step| step.action != "keep").flat_map(rows).collect();
    if rows.is_empty() { String::new() } else { table(&HEAD, &rows) + "\n" }
}

/// A row for each member that changes. The first also says which thing it belongs to.
fn rows(step: &PlanStepView) -> Vec<Vec<String>> {
    let mut thing = vec![step.action.clone(), step.kind.clone(), step.name.clone()];
    if step.changes.is_empty() {
        return vec![thing];
    }
    let rows = step.changes.iter().map(|change| {
        let mut row = thing.clone();
        thing.fill(String::new());
        row.extend([change.path.clone(), shown(change.from.as_ref()), shown(change.to.as_ref())]);
        row
    });
    rows.collect()
}

fn shown(value: Option<&Value>) -> String {
    let text = value.and_then(plain).unwrap_or_default();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// How many things a plan deletes.
pub(super) fn deletions(steps: &[PlanStepView]) -> usize {
    steps.iter().filter(|step| step.action == "delete").count()
}

/// How many things a plan creates, changes, deletes and leaves as they are.
pub(super) fn summary(plan: &PlanView) -> String {
    let counts = ACTIONS.iter().filter_map(|(action, before, after)| {
        let count = plan.steps.iter().filter(|step| step.action == *action).count();
        let words = if plan.applied { after } else { before };
        (count > 0).then(|| format!("{count} {words}"))
    });
    let counts: Vec<String> = counts.collect();
    if counts.is_empty() { "nothing to change".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn plan(applied: bool, steps: &Value) -> PlanView {
        from_value(json!({"project": "shop", "plan": "x", "applied": applied, "steps": steps}))
            .unwrap()
    }

    #[test]
    fn a_plan_has_a_row_for_each_member_that_changes() {
        let steps = json!([
            {"action": "create", "kind": "function", "name": "hello"},
            {"action": "change", "kind": "function", "name": "greet", "changes": [
                {"path": "settings.timeout_ms", "from": 5, "to": 9},
                {"path": "description", "from": null, "to": "x".repeat(60)},
            ]},
            {"action": "keep", "kind": "queue", "name": "orders"},
            {"action": "delete", "kind": "route", "name": "old\u{1b}"},
        ]);
        let plan = plan(false, &steps);
        let long = format!("{}…", "x".repeat(SHOWN));
        assert_eq!(
            changes(&plan.steps),
            format!(
                "ACTION  KIND      NAME       CHANGES              FROM  TO\n\
                 create  function  hello\n\
                 change  function  greet      settings.timeout_ms  5     9\n\
                 {:29}description                {long}\n\
                 delete  route     old\\u{{1b}}\n\n",
                ""
            )
        );
        assert_eq!(summary(&plan), "1 to create, 1 to change, 1 to delete, 1 unchanged");
        assert_eq!(deletions(&plan.steps), 1);
    }

    #[test]
    fn a_plan_that_changes_nothing_has_no_table() {
        let kept = plan(true, &json!([{"action": "keep", "kind": "flow", "name": "a"}]));
        assert_eq!(changes(&kept.steps), "");
        assert_eq!(summary(&kept), "1 unchanged");
        assert_eq!(summary(&plan(false, &json!([]))), "nothing to change");
    }
}
