//! How containers are brought to their end: hook, signal, kill; sidecars last.

use std::time::Duration;

use super::spec::ContainerRole;
use super::state::{Action, Pod, Status};

impl Pod {
    /// Begins the end of one container: its hook, or its signal at once.
    pub(super) fn end(&mut self, index: usize, now: Duration, actions: &mut Vec<Action>) {
        let grace = self.rules.grace;
        let state = &mut self.containers[index];
        if state.kill_at.is_some() || state.status != Status::Running {
            return;
        }
        state.ready = false;
        state.kill_at = Some(now + grace);
        if self.rules.containers[index].pre_stop {
            actions.push(Action::PreStop(index));
        } else {
            self.terminate(index, actions);
        }
    }

    /// Sends the signal, once.
    pub(super) fn terminate(&mut self, index: usize, actions: &mut Vec<Action>) {
        let state = &mut self.containers[index];
        if state.status == Status::Running && !state.asked {
            state.asked = true;
            actions.push(Action::Terminate(index));
        }
    }

    /// Ends everything: the pod's own containers and init containers first, then the sidecars,
    /// the last one first.
    pub(super) fn wind_down(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for state in &mut self.containers {
            state.again_at = None;
            if let Status::BackOff(exit) = &state.status {
                state.status = Status::Ended(exit.clone());
            }
        }
        let first: Vec<usize> = self
            .of_role(ContainerRole::Main)
            .chain(self.of_role(ContainerRole::Init))
            .collect();
        let mut alive = false;
        for index in first {
            alive |= self.is_alive(index);
            self.end(index, now, actions);
        }
        if alive {
            return;
        }
        let sidecars: Vec<usize> = self.of_role(ContainerRole::Sidecar).collect();
        if let Some(last) = sidecars.into_iter().rfind(|index| self.is_alive(*index)) {
            self.end(last, now, actions);
        }
    }

    fn is_alive(&self, index: usize) -> bool {
        matches!(
            self.containers[index].status,
            Status::Running | Status::Starting
        )
    }

    /// Kills what did not end in time.
    pub(super) fn kill_late(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (index, state) in self.containers.iter_mut().enumerate() {
            if state.kill_at.is_some_and(|at| at <= now) {
                // Asked again, should the kill be lost, but not at once.
                state.kill_at = Some(now + Duration::from_secs(5));
                actions.push(Action::Kill(index));
            }
        }
    }
}
