//! When CronJobs start their jobs.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use croner::Cron;
use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::desired::{Concurrency, Controller, Name, Workload};

/// Ended jobs that are kept for their logs (Kubernetes: three that succeeded, one that failed).
const KEPT: usize = 4;

/// The next start of each CronJob.
#[derive(Debug, Default)]
pub(super) struct Schedules(BTreeMap<Name, (String, Instant)>);

/// A job whose time has come.
pub(super) struct Due {
    /// The CronJob's name.
    pub cron: String,
    /// Its job.
    pub job: Workload,
    concurrency: Concurrency,
}

/// What becomes of it.
pub(super) enum Decision {
    /// It starts.
    Start,
    /// It is left out.
    Skip,
    /// It starts, and those that run are stopped.
    Replace,
}

impl Due {
    /// Decides, given how many of the same CronJob run.
    pub(super) fn decide(&self, active: usize) -> Decision {
        match self.concurrency {
            Concurrency::Forbid if active > 0 => Decision::Skip,
            Concurrency::Replace if active > 0 => Decision::Replace,
            _ => Decision::Start,
        }
    }
}

/// The next time of a schedule, as a pause from now; `None` for one that never comes or is wrong.
fn pause(schedule: &str, zone: Option<&str>) -> Option<Duration> {
    let now = match zone {
        Some(name) => Zoned::now().with_time_zone(TimeZone::get(name).ok()?),
        None => Zoned::now(),
    };
    let next = Cron::from_str(schedule)
        .ok()?
        .find_next_occurrence(&now, false)
        .ok()?;
    Duration::try_from(next.duration_since(&now)).ok()
}

impl Schedules {
    /// Takes in what is wanted; unchanged schedules keep their time.
    pub(super) fn set(&mut self, workloads: &[Workload]) {
        let mut next = BTreeMap::new();
        for workload in workloads {
            let Controller::Cron {
                schedule,
                time_zone,
                suspended: false,
                ..
            } = &workload.controller
            else {
                continue;
            };
            let known = self
                .0
                .remove(&workload.name)
                .filter(|(old, _)| old == schedule);
            let at = match known {
                Some((_, at)) => Some(at),
                None => pause(schedule, time_zone.as_deref()).map(|pause| Instant::now() + pause),
            };
            if let Some(at) = at {
                next.insert(workload.name.clone(), (schedule.clone(), at));
            }
        }
        self.0 = next;
    }

    /// The next time of any.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, at)| *at).min()
    }

    /// The jobs whose time has come; their next times are set.
    pub(super) fn due(&mut self, workloads: &[Workload]) -> Vec<Due> {
        let now = Instant::now();
        let mut due = Vec::new();
        for workload in workloads {
            let Controller::Cron {
                schedule,
                time_zone,
                concurrency,
                job,
                ..
            } = &workload.controller
            else {
                continue;
            };
            let Some((_, at)) = self.0.get_mut(&workload.name) else {
                continue;
            };
            if *at > now {
                continue;
            }
            let next = pause(schedule, time_zone.as_deref());
            *at = now + next.unwrap_or(Duration::from_hours(24));
            let minute = jiff::Timestamp::now().as_second() / 60;
            let name = format!("{}-{minute}", workload.name.name);
            due.push(Due {
                cron: workload.name.name.clone(),
                job: Workload {
                    kind: "Job".to_owned(),
                    name: Name::new(&workload.name.namespace, name),
                    controller: Controller::Job(*job),
                    template: workload.template.clone(),
                    hash: workload.hash.clone(),
                },
                concurrency: *concurrency,
            });
        }
        due
    }
}

/// Forgets the oldest jobs of a CronJob.
pub(super) fn forget_old(started: &mut Vec<Workload>, cron: &str) {
    let prefix = format!("{cron}-");
    let own = |job: &Workload| job.name.name.starts_with(&prefix);
    let mut surplus = started
        .iter()
        .filter(|job| own(job))
        .count()
        .saturating_sub(KEPT);
    started.retain(|job| {
        let forget = own(job) && surplus > 0;
        surplus -= usize::from(forget);
        !forget
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_of_each_minute_comes_within_a_minute() {
        assert!(pause("* * * * *", None).unwrap() <= Duration::from_mins(1));
        assert!(pause("@hourly", Some("Europe/Berlin")).unwrap() <= Duration::from_hours(1));
        assert_eq!(pause("nonsense", None), None);
    }
}
