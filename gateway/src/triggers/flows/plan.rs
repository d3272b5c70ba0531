//! A flow with all flows within it, as one run of it goes: later changes do not matter to the run.

use std::collections::BTreeMap;

use gateway_api::{FlowSpec, FlowStep};
use serde::{Deserialize, Serialize};

/// Flows within flows. Arbitrary: more is hard to understand.
const DEPTH: usize = 8;
/// Steps of a flow with those of all flows within it.
const ALL_STEPS: usize = 256;

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowPlan {
    /// The name of the flow.
    pub(crate) name: String,
    pub(crate) flow: FlowSpec,
    /// The flows within it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) flows: BTreeMap<String, FlowSpec>,
}

impl FlowPlan {
    /// The plan of a flow. An error says what is not there, or goes round in a circle.
    pub(super) fn new(
        name: &str,
        flow: &FlowSpec,
        find: &impl Fn(&str) -> Option<FlowSpec>,
    ) -> Result<Self, String> {
        let mut flows = BTreeMap::new();
        let mut way = vec![name.to_owned()];
        let steps = collect(flow, &mut way, &mut flows, find)?;
        if steps > ALL_STEPS {
            return Err(format!(
                "steps: with those of the flows within it there are {steps}; at most {ALL_STEPS} are \
                 allowed"
            ));
        }
        Ok(Self { name: name.to_owned(), flow: flow.clone(), flows })
    }
}

/// The steps of a flow that are no groups.
pub(super) fn calls(flow: &FlowSpec) -> impl Iterator<Item = &FlowStep> {
    flow.steps.iter().flat_map(|step| {
        let alone = step.group.is_empty().then_some(step);
        alone.into_iter().chain(&step.group)
    })
}

/// Collects the flows within a flow, and counts the steps of all of them. `way` leads to it.
fn collect(
    flow: &FlowSpec,
    way: &mut Vec<String>,
    flows: &mut BTreeMap<String, FlowSpec>,
    find: &impl Fn(&str) -> Option<FlowSpec>,
) -> Result<usize, String> {
    let mut steps = 0;
    for step in calls(flow) {
        steps += 1;
        let Some(name) = &step.flow else { continue };
        if way.contains(name) {
            way.push(name.clone());
            return Err(format!("flow: it would run within itself: {}", way.join(" → ")));
        }
        if way.len() > DEPTH {
            return Err(format!("flow: more than {DEPTH} flows are within each other"));
        }
        let inner = find(name).ok_or_else(|| format!("flow: there is no flow {name:?}"))?;
        way.push(name.clone());
        steps += collect(&inner, way, flows, find)?;
        way.pop();
        flows.insert(name.clone(), inner);
        // Flows that name each other twice at each level would be walked through for ever.
        if steps > ALL_STEPS {
            return Ok(steps);
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn flow(steps: &Value) -> FlowSpec {
        serde_json::from_value(json!({"steps": steps, "response": null})).unwrap()
    }

    fn planned(name: &str, flows: &[(&str, Value)]) -> Result<FlowPlan, String> {
        let flows: BTreeMap<&str, FlowSpec> =
            flows.iter().map(|(name, steps)| (*name, flow(steps))).collect();
        FlowPlan::new(name, &flows[name], &|name| flows.get(name).cloned())
    }

    /// Case W02.
    #[test]
    fn a_flow_that_would_run_within_itself_is_refused() {
        let own = planned("a", &[("a", json!([{"flow": "a"}]))]).unwrap_err();
        assert!(own.ends_with("a → a"), "{own}");
        let circle = [
            ("a", json!([{"function": "f"}, {"group": [{"flow": "b"}]}])),
            ("b", json!([{"flow": "c"}])),
            ("c", json!([{"flow": "a"}])),
        ];
        let circle = planned("a", &circle).unwrap_err();
        assert!(circle.ends_with("a → b → c → a"), "{circle}");
        assert!(planned("a", &[("a", json!([{"flow": "b"}]))]).unwrap_err().contains("no flow"));
    }

    /// Case W02.
    #[test]
    fn flows_within_flows_and_their_steps_are_bounded() {
        let f = || json!({"function": "f"});
        let twice = [("a", json!([{"flow": "b"}, {"flow": "b"}])), ("b", json!([f(), f()]))];
        let plan = planned("a", &twice).unwrap();
        assert_eq!(plan.flows.keys().collect::<Vec<_>>(), ["b"]);
        let read: FlowPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(read, plan);

        let names: Vec<String> = (0..10).map(|n| format!("f{n}")).collect();
        let chain = |length: usize| {
            let steps = (0..length).map(|n| {
                let next = names.get(n + 1).filter(|_| n + 1 < length);
                let steps = next.map_or_else(|| json!([f()]), |next| json!([{"flow": next}]));
                (names[n].as_str(), steps)
            });
            planned("f0", &steps.collect::<Vec<_>>())
        };
        assert!(chain(9).is_ok());
        assert!(chain(10).unwrap_err().contains("within each other"));
        // Each level has two of the next: 2^n steps, which are not walked through.
        let tree: Vec<_> = (0..8)
            .map(|n| {
                let next = || json!({"flow": names[n + 1]});
                let steps = if n == 7 { vec![f(); 16] } else { vec![next(), next()] };
                (names[n].as_str(), json!(steps))
            })
            .collect();
        assert!(planned("f0", &tree).unwrap_err().starts_with("steps:"));
    }
}
