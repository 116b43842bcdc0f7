package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// namespaces implements wires with network namespaces of the kernel. Every role, and the clients, have their own
// namespace. Each is connected to the hub, a namespace that routes between them and drops the packets of ways that are
// cut. A cut therefore affects packets of old and new connections: the kernels retransmit, back off, and give up, as
// between machines.
//
// It does not touch the interfaces, routes or filters of the machine: each interface is created within a namespace, and
// none connects to the outside.
type namespaces struct {
	prefix    string
	addresses map[string]string // by role, and of the clients
	delays    *delays           // nil if ways cannot be slow
	noDelays  error             // the reason for that
}

const (
	// hub is the namespace in the middle.
	hub = "hub"
	// namespacePrefix begins the name of every namespace. The pid of the test that created it follows, so that
	// leftovers can be attributed.
	namespacePrefix = "chainstore-e2e-"
	// namespaceFolder is the folder in which `ip netns` keeps the names.
	namespaceFolder = "/run/netns"
)

// filter is the packet filter of the hub. It drops the packets of ways that are cut. It marks the packets of slow ways,
// which routes them to delayDevice and back later.
const filter = `table ip faults {
	counter stopped { }
	set cut { type ipv4_addr . ipv4_addr; }
	set slow { type ipv4_addr . ipv4_addr; }
	chain early {
		type filter hook prerouting priority mangle;
		iifname != "` + delayDevice + `" ip saddr . ip daddr @slow meta mark set 1
	}
	chain forward {
		type filter hook forward priority filter;
		ip saddr . ip daddr @cut counter name stopped drop
	}
}
`

// haveNamespaces returns the reason why the machine cannot create namespaces, or nil. It creates, cuts and removes a
// small network. Before that it removes the namespaces of tests that were killed.
var haveNamespaces = sync.OnceValue(func() error {
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	_ = removeLeftovers() // another test may be removing them, and they do no harm
	ns, err := newNamespaces([]string{"a", "b"})
	if err != nil {
		return err
	}
	_, err = runTool("", "ip", "netns", "exec", ns.name("a"), "true")
	return errors.Join(err, ns.set(map[way]condition{{"a", "b"}: {cut: true}}), ns.close())
})

// networks numbers the networks of this process, for their names.
var networks atomic.Int64

// newNamespaces creates and connects the namespaces of the roles and the clients.
func newNamespaces(roles []string) (*namespaces, error) {
	ns := &namespaces{
		prefix:    fmt.Sprintf("%s%d-%d-", namespacePrefix, os.Getpid(), networks.Add(1)),
		addresses: map[string]string{},
	}
	if err := ns.make(append(slices.Clone(roles), clientName)); err != nil {
		return nil, errors.Join(err, ns.close())
	}
	ns.delays, ns.noDelays = newDelays(ns)
	return ns, nil
}

// make creates the namespaces and connects them.
func (ns *namespaces) make(roles []string) error {
	script := ""
	for _, role := range append([]string{hub}, roles...) {
		script += "netns add " + ns.name(role) + "\n"
	}
	if _, err := runTool(script, "ip", "-batch", "-"); err != nil {
		return err
	}
	if err := ns.prepareHub(); err != nil {
		return err
	}
	for i, role := range roles {
		if err := ns.join(role, i+1); err != nil {
			return err
		}
	}
	return nil
}

// prepareHub enables routing and filtering in the hub. Packets that return from delayDevice have a source that is not
// behind that device, so reverse-path filtering must be off.
func (ns *namespaces) prepareHub() error {
	_, err := inNamespace(ns.name(hub), func() (struct{}, error) {
		for name, value := range map[string]string{"ip_forward": "1", "conf/all/rp_filter": "0",
			"conf/default/rp_filter": "0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		return err
	}
	return ns.nft(filter)
}

// join connects a namespace with the hub through a subnet of its own.
func (ns *namespaces) join(role string, number int) error {
	router, own := fmt.Sprintf("10.77.%d.1", number), fmt.Sprintf("10.77.%d.2", number)
	ns.addresses[role] = own
	err := ns.ip(hub,
		"link add name "+role+" type veth peer name eth0 netns "+ns.name(role),
		"address add "+router+"/24 dev "+role,
		"link set dev "+role+" up")
	if err != nil {
		return err
	}
	return ns.ip(role,
		"link set dev lo up",
		"address add "+own+"/24 dev eth0",
		"link set dev eth0 up",
		"route add default via "+router)
}

func (ns *namespaces) name(role string) string { return ns.prefix + role }

// move moves a role of the topology to its namespace.
func (ns *namespaces) move(_ int, r *devcluster.Role) {
	host, known := ns.addresses[r.Name]
	if !known {
		return
	}
	r.HTTP, r.Raft = strings.Replace(r.HTTP, "127.0.0.1", host, 1), strings.Replace(r.Raft, "127.0.0.1", host, 1)
	r.Remote, r.Enter = true, []string{"ip", "netns", "exec", ns.name(r.Name)}
}

// ip runs commands of `ip` within a namespace.
func (ns *namespaces) ip(role string, lines ...string) error {
	_, err := runTool(strings.Join(lines, "\n"), "ip", "-netns", ns.name(role), "-batch", "-")
	return err
}

// nft applies a script of `nft` in the hub, as a single transaction.
func (ns *namespaces) nft(script string) error {
	_, err := runTool(script, "ip", "netns", "exec", ns.name(hub), "nft", "-f", "-")
	return err
}

// set implements wires with one transaction of the packet filter.
func (ns *namespaces) set(ways map[way]condition) error {
	var cut, slow []string
	by := delayTable{}
	for w, is := range ways {
		from, to := ns.addresses[w.from], ns.addresses[w.to]
		if is.cut {
			cut = append(cut, from+" . "+to)
		}
		if is.slow > 0 {
			slow = append(slow, from+" . "+to)
			by.add(from, to, is.slow)
		}
	}
	if ns.delays != nil {
		ns.delays.set(by)
	} else if len(slow) > 0 {
		return fmt.Errorf("ways cannot be slow: %w", ns.noDelays)
	}
	script := "flush set ip faults cut\nflush set ip faults slow\n"
	for name, elements := range map[string][]string{"cut": cut, "slow": slow} {
		if len(elements) > 0 {
			script += "add element ip faults " + name + " { " + strings.Join(elements, ", ") + " }\n"
		}
	}
	return ns.nft(script)
}

// stopped implements wires. The tool prints `counter stopped { packets 12 bytes 720 }` within its table.
func (ns *namespaces) stopped() (packets int, err error) {
	told, err := runTool("", "ip", "netns", "exec", ns.name(hub), "nft", "list", "counter", "ip", "faults", "stopped")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(told, "packets ")
	_, err = fmt.Sscan(rest, &packets)
	return packets, err
}

func (ns *namespaces) canSlow() bool { return ns.delays != nil }

func (ns *namespaces) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return ns.dialFrom(ctx, clientName, network, address)
}

// dialFrom connects from the namespace of a role that does not run.
func (ns *namespaces) dialFrom(ctx context.Context, role, network, address string) (net.Conn, error) {
	return inNamespace(ns.name(role), func() (net.Conn, error) {
		dialer := net.Dialer{Timeout: connectTime}
		return dialer.DialContext(ctx, network, address)
	})
}

func (ns *namespaces) listen(role, address string) (net.Listener, error) {
	return inNamespace(ns.name(role), func() (net.Listener, error) { return net.Listen("tcp", address) })
}

// close removes all namespaces and everything in them.
func (ns *namespaces) close() error {
	if ns.delays != nil {
		ns.delays.close()
	}
	return removeNamespaces(ns.prefix)
}

// inNamespace calls a function that creates a socket in a namespace. The socket stays in that namespace, whichever
// thread uses it later.
func inNamespace[T any](name string, do func() (T, error)) (made T, err error) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread()
		var own, there *os.File
		if own, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return
		}
		defer func() { _ = own.Close() }() // it is only read
		if there, err = os.Open(filepath.Join(namespaceFolder, name)); err != nil {
			return
		}
		defer func() { _ = there.Close() }()
		if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter the network namespace %s: %w", name, err)
			return
		}
		made, err = do()
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, back)
			return // the thread stays locked, and exits with the goroutine
		}
		runtime.UnlockOSThread()
	})
	done.Wait()
	return made, err
}

// removeNamespaces removes the namespaces whose names have a prefix.
func removeNamespaces(prefix string) error {
	names, err := filepath.Glob(filepath.Join(namespaceFolder, prefix+"*"))
	if err != nil || len(names) == 0 {
		return err
	}
	script := ""
	for _, path := range names {
		script += "netns delete " + filepath.Base(path) + "\n"
	}
	_, err = runTool(script, "ip", "-force", "-batch", "-")
	return err
}

// removeLeftovers removes the namespaces of processes that have ended.
func removeLeftovers() error {
	names, err := filepath.Glob(filepath.Join(namespaceFolder, namespacePrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range names {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namespacePrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if err := removeNamespaces(namespacePrefix + owner + "-"); err != nil {
			return err
		}
	}
	return nil
}

// runTool runs a tool of the machine with an input.
func runTool(input, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}
