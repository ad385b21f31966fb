package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// domain is the cluster's DNS domain, as given to the kubelet.
const domain = "cluster.local."

// nameServer answers A queries for services (the Kubernetes DNS specification,
// section 2) and for a fixed list of hosts. Everything else goes to the upstream
// server, or does not exist when there is none: a hermetic cluster never waits
// for a resolver that it cannot reach.
type nameServer struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	hosts    map[string]net.IP
	upstream string
}

// newDNSCommand is the cluster's name server. It lives in this binary because the
// Kubernetes client is linked here already; CoreDNS would add minutes to a cold build.
func newDNSCommand() *cobra.Command {
	var listen, kubeconfig, upstream string
	var hosts map[string]string
	command := &cobra.Command{
		Use:          "dns",
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			server := &nameServer{hosts: map[string]net.IP{}, upstream: upstream}
			for name, address := range hosts {
				server.hosts[name+"."] = net.ParseIP(address)
			}
			if err := server.watch(kubeconfig); err != nil {
				return err
			}
			return server.serve(listen)
		},
	}
	flags := command.Flags()
	flags.StringVar(&listen, "listen", "", "address for UDP and TCP")
	flags.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	flags.StringVar(&upstream, "upstream", "", "server for all other names; none: they do not exist")
	flags.StringToStringVar(&hosts, "host", nil, "fixed names: name=address")
	return command
}

func (s *nameServer) watch(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	s.services = factory.Core().V1().Services().Lister()
	s.slices = factory.Discovery().V1().EndpointSlices().Lister()
	factory.Start(context.Background().Done())
	factory.WaitForCacheSync(context.Background().Done())
	return nil
}

func (s *nameServer) serve(listen string) error {
	packets, err := net.ListenPacket("udp", listen)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := streams.Accept()
			if err != nil {
				klog.Fatal(err)
			}
			go s.serveStream(connection)
		}
	}()
	buffer := make([]byte, 65535)
	for {
		n, peer, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		query := append([]byte(nil), buffer[:n]...)
		go func() {
			if reply := s.reply("udp", query); reply != nil {
				packets.WriteTo(reply, peer)
			}
		}()
	}
}

// serveStream answers queries with a two-byte length before each (RFC 1035, 4.2.2).
func (s *nameServer) serveStream(connection net.Conn) {
	defer connection.Close()
	for {
		connection.SetDeadline(time.Now().Add(30 * time.Second))
		query, err := readFrame(connection)
		if err != nil {
			return
		}
		reply := s.reply("tcp", query)
		if reply == nil || writeFrame(connection, reply) != nil {
			return
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var length uint16
	if err := binary.Read(r, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	frame := make([]byte, length)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func writeFrame(w io.Writer, frame []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(frame))), frame...))
	return err
}

// reply returns the answer to one query, or nil for something that is not one.
func (s *nameServer) reply(network string, query []byte) []byte {
	var message dnsmessage.Message
	if err := message.Unpack(query); err != nil || message.Response || len(message.Questions) != 1 {
		return nil
	}
	question := message.Questions[0]
	name := strings.ToLower(question.Name.String())
	addresses, found := s.lookup(name)
	if !found && s.upstream != "" && !strings.HasSuffix(name, "."+domain) {
		reply, err := forward(network, s.upstream, query)
		if err == nil {
			return reply
		}
		klog.Warningf("%s: %v", name, err)
		message.RCode = dnsmessage.RCodeServerFailure
	} else if !found {
		message.RCode = dnsmessage.RCodeNameError
	}
	message.Response, message.Authoritative, message.RecursionAvailable = true, true, s.upstream != ""
	message.Answers, message.Authorities, message.Additionals = nil, nil, nil
	if question.Type == dnsmessage.TypeA || question.Type == dnsmessage.TypeALL {
		for _, address := range addresses {
			record := dnsmessage.AResource{A: [4]byte(address.To4())}
			header := dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1}
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: header, Body: &record})
		}
	}
	packed, err := message.Pack()
	if err != nil {
		klog.Warningf("%s: %v", name, err)
		return nil
	}
	return packed
}

// lookup gives the IPv4 addresses of a name, and whether the name exists at all.
func (s *nameServer) lookup(name string) ([]net.IP, bool) {
	if address, ok := s.hosts[name]; ok {
		return []net.IP{address}, true
	}
	inner, ok := strings.CutSuffix(name, ".svc."+domain)
	if !ok {
		return nil, false
	}
	parts := strings.Split(inner, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, false
	}
	namespace, service := parts[len(parts)-1], parts[len(parts)-2]
	found, err := s.services.Services(namespace).Get(service)
	if err != nil {
		return nil, false
	}
	headless := found.Spec.ClusterIP == corev1.ClusterIPNone
	if len(parts) == 3 {
		addresses := s.endpoints(namespace, service, parts[0])
		return addresses, headless && len(addresses) > 0
	}
	if headless {
		return s.endpoints(namespace, service, ""), true
	}
	if address := net.ParseIP(found.Spec.ClusterIP); address.To4() != nil {
		return []net.IP{address}, true
	}
	return nil, true
}

// endpoints are the ready addresses behind a service; a hostname selects one.
func (s *nameServer) endpoints(namespace, service, hostname string) []net.IP {
	selector := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})
	slices, err := s.slices.EndpointSlices(namespace).List(selector)
	if err != nil {
		return nil
	}
	var addresses []net.IP
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready != nil && !*ready {
				continue
			}
			if hostname != "" && (endpoint.Hostname == nil || *endpoint.Hostname != hostname) {
				continue
			}
			for _, text := range endpoint.Addresses {
				if address := net.ParseIP(text); address.To4() != nil {
					addresses = append(addresses, address)
				}
			}
		}
	}
	return addresses
}

// forward asks another server and returns its answer as it is.
func forward(network, server string, query []byte) ([]byte, error) {
	connection, err := net.DialTimeout(network, server, 2*time.Second)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(4 * time.Second))
	if network == "tcp" {
		if err := writeFrame(connection, query); err != nil {
			return nil, err
		}
		return readFrame(connection)
	}
	if _, err := connection.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, 65535)
	n, err := connection.Read(buffer)
	if err == nil && n == 0 {
		err = errors.New("empty answer")
	}
	return buffer[:n], err
}
