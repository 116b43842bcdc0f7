package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/wire"
)

// openMode reads the step of the move to TLS from the data folder.
func (c *NodeConfig) openMode() (err error) {
	if c.Data == "" {
		return nil // it is refused later
	}
	c.mode, err = certs.OpenMode(c.Data, c.TLS.Cert != "")
	return err
}

// port returns the mode of a port at an address.
func (c *NodeConfig) port(hostPort string) certs.Port {
	return certs.Port{Mode: c.mode, Plain: c.Insecure || isLoopback(hostPort)}
}

// scheme returns that of this node's URL.
func (c *NodeConfig) scheme() string {
	if c.TLS.Cert != "" && !c.mode.Step().Mixed() {
		return "https"
	}
	return "http"
}

// checkURLs refuses URLs that a node with certificates does not call. One without them may reach others through a proxy
// with TLS. Once the group moves to TLS, its step decides how a URL is called.
func (c *NodeConfig) checkURLs(flag string, urls []string) error {
	for _, u := range urls {
		if c.TLS.Cert != "" && c.mode.Step() == wire.TLSByFlags && !strings.HasPrefix(u, "https://") {
			return fmt.Errorf("%s %s does not begin with https://: with --tls-cert all nodes speak TLS. To move a "+
				"cluster that runs to TLS, run 'chainstore tls accept' first, and start this node with certificates "+
				"once 'chainstore tls status' shows that it knows the step", flag, u)
		}
	}
	return nil
}

// openCerts reads the certificates. It returns nil if no files are given.
func (c *NodeConfig) openCerts(role string) (*certs.Store, error) {
	given, err := c.TLS.Complete()
	if err != nil || !given {
		return nil, err
	}
	if c.TLSGrace < 0 {
		return nil, fmt.Errorf("--tls-grace %v is negative: give 0 for no grace", c.TLSGrace)
	}
	if c.Insecure && !c.mode.Step().Mixed() {
		c.Logger.Warn("--insecure has no effect with --tls-cert: all connections have TLS")
	}
	store, err := certs.Open(c.TLS, c.TLSGrace, c.Logger)
	if err != nil {
		return nil, err
	}
	if id := store.Identity(); id.Role != role {
		return nil, fmt.Errorf("--tls-cert %s is the certificate of %s, and this is a %s", c.TLS.Cert, id, role)
	}
	return store, nil
}

// reachedAt requires that the certificates, if there are any, are for the host of this role's URL, and for others.
func reachedAt(store *certs.Store, ownURL string, others ...certs.Reached) error {
	if store == nil {
		return nil
	}
	u, err := url.Parse(ownURL)
	if err != nil {
		return err
	}
	return store.ReachedAt(append(others, certs.Reached{Host: u.Hostname(), Flag: "--advertise"})...)
}

// named returns an address if its host is a name, and "" otherwise. The address of a listener has no names, but
// certificates do.
func named(hostPort string) string {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil || host == "" || port == "0" || net.ParseIP(host) != nil {
		return ""
	}
	return hostPort
}

// isLoopback reports whether an address host:port is a loopback address.
func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// checkLoopback refuses an address other than a loopback address without TLS, unless --insecure allows it. With TLS the
// port of such an address takes no plain text, whatever the step of TLS is.
func (c *NodeConfig) checkLoopback(flag, hostport string) error {
	if _, _, err := net.SplitHostPort(hostport); err != nil {
		return fmt.Errorf("%s %q: %w", flag, hostport, err)
	}
	if c.Insecure || c.TLS.Cert != "" || isLoopback(hostport) {
		if c.TLS.Cert != "" && c.mode.Step().Mixed() && !c.port(hostport).Plain {
			c.Logger.Warn("this port takes no plain text, and nodes without certificates do not reach it: give "+
				"--insecure until the step of TLS is require", "flag", flag, "address", hostport, "step", c.mode.Step())
		}
		return nil
	}
	return fmt.Errorf("%s %s is not a loopback address: tokens and records would cross the network unencrypted; "+
		"give certificates (--tls-cert, --tls-key, --tls-ca), or --insecure if you trust the network, or use 127.0.0.1",
		flag, hostport)
}

const (
	// mostConnections is the default of --max-connections where the process may open enough files.
	mostConnections = 10_000
	// perAddress is the least default of --max-connections-per-address, if there are so many connections: a proxy may
	// need one for each of its clients.
	perAddress = 2_000
	// ownFiles is how many files a role may need at once for its data folder, raft and its calls to other nodes.
	ownFiles = 256
)

// connectionLimits returns the limits of a role's connections, for a process that may open so many files. By default
// the connections take half of them, and one address half of the connections or perAddress.
func (c *NodeConfig) connectionLimits(files uint64) (httpapi.ConnectionLimits, error) {
	limits := httpapi.ConnectionLimits{Total: c.MaxConnections, PerAddress: c.MaxConnectionsPerAddress}
	switch {
	case limits.Total < 0:
		return limits, fmt.Errorf("--max-connections %d is negative: give 0 for the default", limits.Total)
	case limits.PerAddress < 0:
		return limits, fmt.Errorf("--max-connections-per-address %d is negative: give 0 for the default",
			limits.PerAddress)
	case limits.Total > 0 && uint64(limits.Total)+ownFiles > files:
		return limits, fmt.Errorf("--max-connections %d: this process may open %d files, and needs up to %d of them "+
			"itself: raise the limit (ulimit -n, LimitNOFILE), or give at most %d",
			limits.Total, files, ownFiles, int64(files)-ownFiles)
	}
	if limits.Total == 0 {
		limits.Total = int(max(1, min(files/2, mostConnections)))
	}
	if limits.PerAddress == 0 {
		limits.PerAddress = max(limits.Total/2, min(limits.Total, perAddress))
	}
	return limits, nil
}

// listen opens the HTTP listener of a role. It returns the URL at which the other nodes reach it.
func (c *NodeConfig) listen() (*httpapi.Listener, string, error) {
	addr, advertise := c.HTTP, c.Advertise
	if err := c.checkLoopback("--http", addr); err != nil {
		return nil, "", err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, "", fmt.Errorf("read the limit of open files: %w", err)
	}
	limits, err := c.connectionLimits(files.Cur)
	if err != nil {
		return nil, "", err
	}
	if advertise != "" {
		if c.mode.Step() != wire.TLSByFlags && c.TLS.Cert != "" {
			advertise = c.mode.Step().URL(advertise)
		}
		u, err := url.Parse(advertise)
		if err != nil || u.Scheme != c.scheme() || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return nil, "", fmt.Errorf("--advertise %q is not written %s://host:port", advertise, c.scheme())
		}
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", fmt.Errorf("--http %s: the port is in use by another process: %w", addr, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("--http %s: %w", addr, err)
	}
	if advertise == "" {
		own := l.Addr().String()
		if c.TLS.Cert != "" {
			own = cmp.Or(named(addr), own)
		}
		advertise = c.scheme() + "://" + own
	}
	return httpapi.Limit(l, limits, c.Logger), strings.TrimRight(advertise, "/"), nil
}

// checkPort checks that an address can be listened on. A role that would find its port taken later has already written
// to its folder.
func checkPort(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// server are the functions of package httpapi that serve a role.
type server struct {
	serve  func(context.Context, net.Listener, http.Handler, hclog.Logger) error
	secure func(net.Listener, *certs.Store, func() bool) *httpapi.SecureListener
}

var (
	nodeServer = server{httpapi.Serve, httpapi.Secure}
	userServer = server{httpapi.ServeUsers, httpapi.SecureUsers}
)

// run answers requests until ctx ends, with TLS if there are certificates. Then it also watches their files, and cuts
// the connections in plain text off once the step of TLS allows none.
func (s server) run(
	ctx context.Context, l net.Listener, store *certs.Store, port certs.Port, h http.Handler, log hclog.Logger,
) error {
	if store == nil {
		return s.serve(ctx, l, h, log)
	}
	watched, end := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { store.Watch(watched) })
	defer watching.Wait()
	defer end()
	secured := s.secure(l, store, port.TakesPlain)
	follow := func(wire.TLSStep) {
		if !port.TakesPlain() {
			secured.ClosePlain()
		}
	}
	port.OnChange(follow)
	follow(port.Step()) // it may have changed before
	return s.serve(ctx, secured, h, log)
}
