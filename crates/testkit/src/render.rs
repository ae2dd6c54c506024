//! A scenario's steps, rendered by a mode and written to a kernel in memory.

use std::fmt::{self, Display, Formatter};

use kernel_state::{Change, Objects, State};
use proxy::Reconciler;
use proxy_modes::Mode;
use service_plan::Family;

use crate::replay::{FamilyStep, Replayed};
use crate::target::FakeTarget;

/// What a step came to in one family.
#[derive(Debug)]
pub struct Rendered<O: Objects> {
    /// The family.
    pub family: Family,
    /// All that is there after the step.
    pub state: State<O>,
    /// The changes of the step, in the order in which they were written.
    pub changes: Vec<Change<O>>,
}

/// All steps, each with its families in order. Checks that what was written step by step is what a fresh start
/// would write.
pub fn rendered<M: Mode + Copy>(
    mode: M,
    steps: &[Replayed],
) -> Result<Vec<Vec<Rendered<M::Objects>>>, String> {
    let mut kernels: Vec<_> = Family::BOTH
        .into_iter()
        .map(|family| {
            let target = FakeTarget::new();
            (family, target.clone(), Reconciler::new(mode, target))
        })
        .collect();
    let mut all = Vec::new();
    for step in steps {
        let mut of_step = Vec::new();
        for ((family, target, reconciler), planned) in kernels.iter_mut().zip(&step.families) {
            reconciler.want(&planned.touched);
            let pass = reconciler.write();
            if !pass.is_complete() {
                return Err(format!("{family}: the pass is not complete: {pass:?}"));
            }
            let (state, fresh) = (target.state(), fresh(&mode, planned));
            if state != fresh {
                return Err(format!(
                    "{family}: step by step it is\n{state}\nbut from the start it would be\n{fresh}"
                ));
            }
            let changes = target.take_writes().into_iter().flatten().collect();
            of_step.push(Rendered { family: *family, state, changes });
        }
        all.push(of_step);
    }
    Ok(all)
}

fn fresh<M: Mode>(mode: &M, planned: &FamilyStep) -> State<M::Objects> {
    let mut state = mode.skeleton(planned.node());
    for service in &planned.services {
        state.extend(mode.render(service, planned.node()));
    }
    state
}

/// What the golden of the first step says: all that is there.
pub fn state_text<O: Objects>(step: &Replayed, rendered: &[Rendered<O>]) -> String {
    let shown: Vec<Family> = step.families_with_something().map(|each| each.family).collect();
    let shown = rendered.iter().filter(|each| shown.contains(&each.family));
    titled(&shown.map(|each| (each.family, each.state.to_string())).collect::<Vec<_>>())
}

/// What the golden of a later step says: the changes alone, in the order in which they were written.
pub fn changes_text<O: Objects>(rendered: &[Rendered<O>]) -> String {
    let changed = rendered.iter().filter(|each| !each.changes.is_empty());
    titled(&changed.map(|each| (each.family, Written(&each.changes).to_string())).collect::<Vec<_>>())
}

/// Families are named, but not IPv4 where it is alone.
fn titled(texts: &[(Family, String)]) -> String {
    match texts {
        [] => "# nothing changes\n".to_owned(),
        [(Family::V4, text)] => text.clone(),
        several => {
            several.iter().map(|(family, text)| format!("# {family}\n{text}")).collect::<Vec<_>>().concat()
        }
    }
}

struct Written<'a, O: Objects>(&'a [Change<O>]);

impl<O: Objects> Display for Written<'_, O> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        O::print_changes(self.0, out)
    }
}
