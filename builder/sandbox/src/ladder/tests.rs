use super::*;

/// Docker's and containerd's default set for a container's root.
const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

fn ordinary_pod() -> Facts {
    Facts {
        euid: 0,
        capabilities: DEFAULT_CAPABILITIES,
        in_user_namespace: false,
        own_namespace: OwnNamespace::None,
        seccomp: false,
        max_user_namespaces: Some(100_000),
        apparmor: None,
        in_container: true,
        root_read_only: false,
        trials: BTreeMap::new(),
    }
}

fn refused(operation: &str, errno: i32) -> Result<(), Failure> {
    Err(Failure {
        operation: operation.to_owned(),
        errno,
    })
}

fn chosen(facts: &Facts) -> (Rung, String) {
    match decide(facts, None) {
        Decision::Use { chosen, tried } => (
            chosen,
            tried
                .into_iter()
                .map(|(rung, why)| format!("{rung}: {why}\n"))
                .collect(),
        ),
        other => panic!("no rung chosen: {other:?}"),
    }
}

#[test]
fn an_ordinary_pod_makes_its_own_user_namespace() {
    let mut facts = ordinary_pod();
    assert_eq!(decide(&facts, None), Decision::Try(Rung::UserNamespace));
    facts.trials.insert(Rung::UserNamespace, Ok(()));
    let (rung, why) = chosen(&facts);
    assert_eq!(rung, Rung::UserNamespace);
    assert!(why.contains("hostUsers: false"), "{why}");
}

#[test]
fn a_user_namespaced_pod_with_sys_admin_needs_no_further_namespace() {
    let mut facts = ordinary_pod();
    facts.in_user_namespace = true;
    assert_eq!(decide(&facts, None), Decision::Try(Rung::UserNamespace));
    facts.capabilities |= SYS_ADMIN;
    assert_eq!(decide(&facts, None), Decision::Try(Rung::UserNamespacedPod));
    facts.trials.insert(Rung::UserNamespacedPod, Ok(()));
    assert_eq!(chosen(&facts).0, Rung::UserNamespacedPod);
}

#[test]
fn runtime_default_seccomp_leaves_the_container_itself() {
    let mut facts = ordinary_pod();
    facts.seccomp = true;
    let failure = refused(
        "unshare the user, mount, pid, ipc and uts namespaces",
        libc::EPERM,
    );
    facts.trials.insert(Rung::UserNamespace, failure);
    let (rung, why) = chosen(&facts);
    assert_eq!(rung, Rung::InPlace);
    assert!(why.contains("seccompProfile: {type: Unconfined}"), "{why}");
    assert!(why.contains("chroot: only on request"), "{why}");
}

#[test]
fn a_restricted_pod_has_no_run() {
    let facts = Facts {
        euid: 1000,
        capabilities: 0,
        seccomp: true,
        trials: BTreeMap::from([(Rung::UserNamespace, refused("unshare", libc::EPERM))]),
        ..ordinary_pod()
    };
    let (rung, why) = chosen(&facts);
    assert_eq!(rung, Rung::NoRun);
    assert!(
        why.contains("in-place: the process runs as user 1000"),
        "{why}"
    );
    assert!(why.contains("runAsUser: 0"), "{why}");
}

#[test]
fn an_ordinary_user_is_root_of_the_namespace_that_was_made() {
    let mut facts = ordinary_pod();
    facts.in_user_namespace = true;
    facts.capabilities = u64::MAX;
    facts.own_namespace = OwnNamespace::Made;
    assert_eq!(decide(&facts, None), Decision::Try(Rung::Rootless));
    facts.trials.insert(Rung::Rootless, Ok(()));
    assert_eq!(chosen(&facts).0, Rung::Rootless);
}

#[test]
fn an_ordinary_user_without_namespaces_reads_why() {
    let failure = Failure {
        operation: "unshare the user namespace".to_owned(),
        errno: libc::ENOSPC,
    };
    let facts = Facts {
        euid: 1000,
        capabilities: 0,
        own_namespace: OwnNamespace::Refused(failure),
        trials: BTreeMap::from([(Rung::UserNamespace, refused("unshare", libc::ENOSPC))]),
        ..ordinary_pod()
    };
    let (rung, why) = chosen(&facts);
    assert_eq!(rung, Rung::NoRun);
    assert!(why.contains("rootless: "), "{why}");
    assert!(why.contains("sysctl user.max_user_namespaces"), "{why}");
}

#[test]
fn a_store_on_the_containers_own_overlay_is_named() {
    let mut facts = ordinary_pod();
    let failure = refused("mount an overlay with upper /kaniko/store/u", libc::EINVAL);
    facts.trials.insert(Rung::UserNamespace, failure);
    let (rung, why) = chosen(&facts);
    assert_eq!(rung, Rung::InPlace);
    assert!(why.contains("emptyDir"), "{why}");
}

#[test]
fn node_settings_are_named() {
    let facts = Facts {
        max_user_namespaces: Some(0),
        root_read_only: true,
        ..ordinary_pod()
    };
    let (rung, why) = chosen(&facts);
    assert_eq!(rung, Rung::NoRun);
    assert!(why.contains("user.max_user_namespaces is 0"), "{why}");
    assert!(why.contains("readOnlyRootFilesystem: false"), "{why}");
}

#[test]
fn missing_capabilities_for_the_id_maps_are_named() {
    let mut facts = ordinary_pod();
    let failure = refused(
        "write \"0 0 65536\" to /proc/<sandbox>/uid_map",
        libc::EPERM,
    );
    facts.trials.insert(Rung::UserNamespace, failure);
    assert!(chosen(&facts).1.contains("add: [SETUID, SETGID, SETFCAP]"));
}

#[test]
fn a_machine_that_is_no_container_is_not_overwritten_unless_asked() {
    let facts = Facts {
        in_container: false,
        trials: BTreeMap::from([(Rung::UserNamespace, refused("unshare", libc::EPERM))]),
        ..ordinary_pod()
    };
    assert_eq!(chosen(&facts).0, Rung::NoRun);
    assert_eq!(
        decide(&facts, Some(Rung::InPlace)),
        Decision::Use {
            chosen: Rung::InPlace,
            tried: Vec::new()
        }
    );
}

#[test]
fn a_forced_rung_is_used_or_refused_but_never_replaced() {
    let mut facts = ordinary_pod();
    let forced = Some(Rung::UserNamespace);
    assert_eq!(decide(&facts, forced), Decision::Try(Rung::UserNamespace));
    facts
        .trials
        .insert(Rung::UserNamespace, refused("unshare", libc::ENOSPC));
    let Decision::Refuse { rung, why } = decide(&facts, forced) else {
        panic!("the forced rung is impossible");
    };
    assert_eq!(rung, Rung::UserNamespace);
    assert!(why.contains("user.max_user_namespaces"), "{why}");
    assert!(matches!(
        decide(&facts, Some(Rung::Chroot)),
        Decision::Use {
            chosen: Rung::Chroot,
            ..
        }
    ));
}

#[test]
fn names_are_read_back() {
    for rung in Rung::ALL {
        assert_eq!(Rung::from_name(rung.name()), Some(rung));
    }
    assert_eq!(Rung::from_name("docker"), None);
}
