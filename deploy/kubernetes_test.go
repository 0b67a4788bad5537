package deploy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/robfig/cron/v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// decode reads the documents of a manifest into the API's types. An unknown or duplicate field is an error.
func decode(t *testing.T, text string) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		objects = append(objects, object)
	}
}

// namespaced is what the tests need to know of every object.
type namespaced interface {
	GetName() string
	GetNamespace() string
}

// manifests checks a file that users apply as it is.
func manifests(t *testing.T, path string) { whole(t, decode(t, read(t, path))) }

// part checks that a file of a component can be read. kustomization checks what becomes of it.
func part(t *testing.T, path string) {
	if len(decode(t, read(t, path))) == 0 {
		t.Error("no document")
	}
}

// kustomization builds the kustomization alone and with components, or a component with the kustomization.
func kustomization(t *testing.T, path string) {
	wanted := map[string]string{ // components, and the kinds that must and must not be there
		"":                       "CronJob,-Deployment,-PersistentVolumeClaim,-ServiceMonitor",
		"agent":                  "Deployment,Service,-CronJob,-PersistentVolumeClaim",
		"state":                  "CronJob,PersistentVolumeClaim",
		"monitoring":             "CronJob,ServiceMonitor,PrometheusRule",
		"agent state monitoring": "Deployment,PersistentVolumeClaim,ServiceMonitor,PrometheusRule,-CronJob",
	}
	own := strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "kubernetes")
	for components, kinds := range wanted {
		if !strings.Contains(components, own) {
			continue
		}
		root := t.TempDir()
		if err := os.CopyFS(filepath.Join(root, "kubernetes"), os.DirFS("kubernetes")); err != nil {
			t.Fatal(err)
		}
		text := "resources: [kubernetes]\nimages: [{name: proxmox-realm, newName: registry.example.com/proxmox-realm, newTag: 1.0.0}]\n"
		for _, c := range strings.Fields(components) {
			text += map[bool]string{true: "", false: "components:\n"}[strings.Contains(text, "components")] + "- kubernetes/" + c + "\n"
		}
		if err := os.WriteFile(filepath.Join(root, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), root)
		if err != nil {
			t.Fatalf("%s: %v", components, err)
		}
		manifest, err := built.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		for kind := range strings.SplitSeq(kinds, ",") {
			kind, absent := strings.CutPrefix(kind, "-")
			if strings.Contains(string(manifest), "kind: "+kind+"\n") == absent {
				t.Errorf("components %q: %s: absent should be %v", components, kind, absent)
			}
		}
		if kept := strings.Contains(string(manifest), "claimName: proxmox-realm-state"); kept != strings.Contains(components, "state") ||
			kept == strings.Contains(string(manifest), "emptyDir:") {
			t.Errorf("components %q: the state is on a volume: %v", components, kept)
		}
		whole(t, decode(t, string(manifest)))
	}
}

// whole checks the objects of one installation.
func whole(t *testing.T, objects []runtime.Object) {
	t.Helper()
	const name = "proxmox-realm"
	if len(objects) == 0 {
		t.Fatal("no document")
	}
	var configuration string
	for _, object := range objects {
		meta := object.(namespaced)
		_, isNamespace := object.(*corev1.Namespace)
		if !strings.HasPrefix(meta.GetName(), name) || !isNamespace && meta.GetNamespace() != name {
			t.Errorf("%T %s: not in the namespace %s, or the name does not begin like it", object, meta.GetName(), name)
		}
		switch o := object.(type) {
		case *corev1.Namespace:
			if o.Labels["pod-security.kubernetes.io/enforce"] != string(api.LevelRestricted) {
				t.Error("the namespace does not enforce restricted pods")
			}
		case *corev1.ServiceAccount:
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				t.Error("the service account hands out its token")
			}
		case *corev1.ConfigMap:
			configuration = o.Data["config.yaml"]
		case *corev1.Secret:
			if o.StringData["token"] == "" || o.StringData["client-key"] == "" {
				t.Error("the secret lacks token or client-key")
			}
		case *networkingv1.NetworkPolicy:
			networkPolicy(t, o)
		case *batchv1.CronJob:
			cronJob(t, o)
		case *appsv1.Deployment:
			pod(t, o.Spec.Template)
			if o.Name == name {
				agentPod(t, o)
			}
		case *corev1.Service, *corev1.PersistentVolumeClaim, *monitoringv1.ServiceMonitor: // references checks these
		case *monitoringv1.PrometheusRule: // TestAlerts
		default:
			t.Errorf("%T: no test covers it", object)
		}
	}
	var others []runtime.Object
	switch {
	case strings.Contains(configuration, "targets_from"):
		others = decode(t, read(t, "kubernetes/targets.yaml"))
		loads(t, configuration, true, others[0].(*corev1.ConfigMap).Data)
	case configuration != "":
		loads(t, configuration, true, nil)
	}
	references(t, append(others, objects...))
}

// networkPolicy checks that the policy opens ports by number or name, and nothing else.
func networkPolicy(t *testing.T, policy *networkingv1.NetworkPolicy) {
	t.Helper()
	if len(policy.Spec.PolicyTypes) != 2 && (len(policy.Spec.Egress) > 0 || policy.Spec.PolicyTypes[0] != networkingv1.PolicyTypeIngress) {
		t.Errorf("%s leaves a direction open", policy.Name)
	}
	var ports [][]networkingv1.NetworkPolicyPort
	for _, in := range policy.Spec.Ingress {
		ports = append(ports, in.Ports)
	}
	for _, out := range policy.Spec.Egress {
		ports = append(ports, out.Ports)
	}
	if len(ports) == 0 || slices.ContainsFunc(ports, func(p []networkingv1.NetworkPolicyPort) bool { return len(p) == 0 }) {
		t.Errorf("%s opens no port, or every port", policy.Name)
	}
}

// agentPod checks that the agent listens where probes and Prometheus reach it, and that no second one runs meanwhile.
func agentPod(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	c := d.Spec.Template.Spec.Containers[0]
	understood(t, c.Args)
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Error("two agents may run at once")
	}
	port := c.Ports[0].ContainerPort
	if !slices.Contains(c.Env, corev1.EnvVar{Name: "PROXMOX_REALM_AGENT_LISTEN", Value: fmt.Sprintf(":%d", port)}) {
		t.Errorf("the agent does not listen on port %d of the pod: %v", port, c.Env)
	}
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet.Port.StrVal != c.Ports[0].Name {
			t.Errorf("a probe is absent, or asks another port: %+v", probe)
		}
	}
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("the probes ask other paths than the agent serves")
	}
}

func cronJob(t *testing.T, job *batchv1.CronJob) {
	t.Helper()
	if _, err := cron.ParseStandard(job.Spec.Schedule); err != nil {
		t.Error(err)
	}
	if job.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent {
		t.Error("runs may overlap")
	}
	spec := job.Spec.JobTemplate.Spec
	pod(t, spec.Template)
	container := spec.Template.Spec.Containers[0]
	understood(t, container.Args)
	if spec.CompletionMode != nil && *spec.CompletionMode == batchv1.IndexedCompletion {
		shards := corev1.EnvVar{Name: "PROXMOX_REALM_SHARDS", Value: strconv.Itoa(int(*spec.Completions))}
		if !slices.Contains(container.Env, shards) {
			t.Errorf("%d completions, but not as many shards: %v", *spec.Completions, container.Env)
		}
	}
	for _, rule := range spec.PodFailurePolicy.Rules {
		if codes := rule.OnExitCodes; codes != nil && *codes.ContainerName != container.Name {
			t.Errorf("a rule is about the container %s, which does not exist", *codes.ContainerName)
		}
	}
}

// pod checks that a pod is restricted, and that it mounts its volumes and no others.
func pod(t *testing.T, pod corev1.PodTemplateSpec) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	results := evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec)
	for _, result := range results {
		if !result.Allowed {
			t.Errorf("the pod is not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
		t.Error("the pod gets the service account's token")
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range pod.Spec.Containers {
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s can write its root", c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
			delete(volumes, m.Name)
		}
	}
	for name := range volumes {
		t.Errorf("the volume %s is not mounted", name)
	}
}

// references checks that what the objects of a manifest refer to by name is in the manifests. The secret
// is not.
func references(t *testing.T, objects []runtime.Object) {
	t.Helper()
	names := map[string]bool{"Secret proxmox-realm": true}
	var pods []corev1.PodTemplateSpec
	var selectors []map[string]string
	for _, object := range objects {
		names[object.GetObjectKind().GroupVersionKind().Kind+" "+object.(namespaced).GetName()] = true
		switch o := object.(type) {
		case *batchv1.CronJob:
			pods = append(pods, o.Spec.JobTemplate.Spec.Template)
		case *appsv1.Deployment:
			pods = append(pods, o.Spec.Template)
			selectors = append(selectors, o.Spec.Selector.MatchLabels)
		case *corev1.Service:
			selectors = append(selectors, o.Spec.Selector)
		case *networkingv1.NetworkPolicy:
			selectors = append(selectors, o.Spec.PodSelector.MatchLabels)
		}
	}
	for _, p := range pods {
		wanted := []string{"ServiceAccount " + p.Spec.ServiceAccountName}
		for _, v := range p.Spec.Volumes {
			switch {
			case v.ConfigMap != nil:
				wanted = append(wanted, "ConfigMap "+v.ConfigMap.Name)
			case v.Secret != nil:
				wanted = append(wanted, "Secret "+v.Secret.SecretName)
			case v.PersistentVolumeClaim != nil:
				wanted = append(wanted, "PersistentVolumeClaim "+v.PersistentVolumeClaim.ClaimName)
			case v.Projected != nil:
				for _, s := range v.Projected.Sources {
					wanted = append(wanted, "ConfigMap "+s.ConfigMap.Name)
				}
			}
		}
		for _, w := range wanted {
			if !names[w] {
				t.Errorf("a pod refers to %s, which is not in the manifest", w)
			}
		}
	}
	for _, object := range objects {
		monitor, isMonitor := object.(*monitoringv1.ServiceMonitor)
		if !isMonitor {
			continue
		}
		for _, object := range objects {
			if service, isService := object.(*corev1.Service); isService && (service.Spec.Ports[0].Name != monitor.Spec.Endpoints[0].Port ||
				!labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels).Matches(labels.Set(service.Labels))) {
				t.Errorf("the ServiceMonitor does not find %s", service.Name)
			}
		}
	}
	for _, selector := range selectors {
		if !slices.ContainsFunc(pods, func(p corev1.PodTemplateSpec) bool {
			return labels.SelectorFromSet(selector).Matches(labels.Set(p.Labels))
		}) {
			t.Errorf("no pod has the labels %v", selector)
		}
	}
}

// configMapVolume writes files as the kubelet does: everyone may write to the folder, and each name is a link by way of
// the link ..data, so that all files change at once.
func configMapVolume(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	const version = "..2026_11_26_12_00_00.1"
	if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(os.Chmod(dir, 0o777), os.Symlink(version, filepath.Join(dir, "..data")))
	for name, content := range files {
		err = errors.Join(err,
			os.WriteFile(filepath.Join(dir, version, name), []byte(content), 0o444),
			os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
}
