//! Which objects are applied before which.

/// Objects of a tier do not need each other; those of a later tier may need
/// all earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// What other objects live in or are instances of; waited for.
    Foundations,
    /// What pods refer to: accounts, rights, configuration, volumes, services.
    References,
    /// Everything else, workloads and custom resources among them.
    Workloads,
    /// Webhooks, which would judge everything applied after them
    /// (kustomize's legacy order puts them last too).
    Webhooks,
}

impl Tier {
    /// In the order in which they are applied.
    pub(super) const ALL: [Self; 4] = [
        Self::Foundations,
        Self::References,
        Self::Workloads,
        Self::Webhooks,
    ];

    /// The tier of a kind, by `Kind.group`.
    pub(super) fn of(group_kind: &str) -> Self {
        match group_kind {
            "Namespace" | "CustomResourceDefinition.apiextensions.k8s.io" => Self::Foundations,
            "ResourceQuota"
            | "LimitRange"
            | "ServiceAccount"
            | "ConfigMap"
            | "Secret"
            | "Service"
            | "Endpoints"
            | "PersistentVolume"
            | "PersistentVolumeClaim" => Self::References,
            "StorageClass.storage.k8s.io"
            | "PriorityClass.scheduling.k8s.io"
            | "RuntimeClass.node.k8s.io"
            | "IngressClass.networking.k8s.io" => Self::References,
            "MutatingWebhookConfiguration.admissionregistration.k8s.io"
            | "ValidatingWebhookConfiguration.admissionregistration.k8s.io" => Self::Webhooks,
            other if other.ends_with(".rbac.authorization.k8s.io") => Self::References,
            _ => Self::Workloads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first_and_webhooks_come_last() {
        let order = [
            "CustomResourceDefinition.apiextensions.k8s.io",
            "ServiceAccount",
            "Deployment.apps",
            "ValidatingWebhookConfiguration.admissionregistration.k8s.io",
        ];
        assert!(
            order
                .windows(2)
                .all(|pair| Tier::of(pair[0]) < Tier::of(pair[1]))
        );
        assert_eq!(
            Tier::of("RoleBinding.rbac.authorization.k8s.io"),
            Tier::References
        );
        assert_eq!(Tier::of("Widget.example.com"), Tier::Workloads);
    }
}
