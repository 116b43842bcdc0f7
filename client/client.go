package client

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
)

// Config names a cluster and the token of its user.
type Config struct {
	// Masters are the URLs of the cluster's masters, all or some, as in http://127.0.0.1:8000. The first is tried
	// first.
	Masters []string
	// Token is the project's, or the admin token for administration; "" for what needs none.
	Token string
	// TLS is the configuration of connections to masters at https:// URLs, with RootCAs for a cluster's own authority;
	// nil for the authorities of the system. It is not used where HTTP is given.
	TLS *tls.Config
	// HTTP is what requests go through; nil for one of the client's own, which keeps connections and finds proxies in
	// the environment.
	HTTP *http.Client
	// RetryFor bounds the time for which a call retries while every master is dead, has no leader, or refuses because
	// of its backlog or the project's quota. 0 is 30 seconds; a negative value is one round through the masters.
	RetryFor time.Duration
}

const (
	defaultRetryFor = 30 * time.Second
	dialTimeout     = 3 * time.Second
	// tryFor bounds the answer of one master: longer than a master itself waits for a leader.
	tryFor = 15 * time.Second
	// slowest is the slowest upload that does not count as a dead master, in bytes per second.
	slowest = 64 << 10
	// The wait after each round through the masters doubles from minBackoff up to maxBackoff.
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	// keptUsers is how many idle connections a user's client keeps to each master.
	keptUsers = 512
)

// Client is a user's view of a cluster. It may be used by many goroutines at once.
//
// A call goes to the master that answered last, and to the next one when that is dead, broken or without a leader.
// After a round through all of them the call waits: a little longer each time, with jitter, and at least as long as a
// Retry-After header asks. It ends with an answer, with the context, or after Config.RetryFor with the last error.
type Client struct {
	masters  []string
	auth     []string
	send     exchange.Send
	own      *http.Transport // nil where the caller gave Config.HTTP
	retryFor time.Duration
	good     atomic.Uint32 // index of the master that answered last
}

// New makes a client. It makes no connection yet. The error wraps [ErrConfig].
func New(cfg Config) (*Client, error) {
	if len(cfg.Masters) == 0 {
		return nil, fmt.Errorf("%w: no master is named: give the URL of at least one", ErrConfig)
	}
	c := &Client{auth: exchange.Bearer(cfg.Token), retryFor: cfg.RetryFor}
	if c.retryFor == 0 {
		c.retryFor = defaultRetryFor
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: the token holds a space, a line break or another byte that no token has", ErrConfig)
	}
	for _, m := range cfg.Masters {
		base, err := checkBase(m)
		if err != nil {
			return nil, err
		}
		c.masters = append(c.masters, base)
	}
	if cfg.HTTP != nil {
		c.send = cfg.HTTP.Do
		return c, nil
	}
	c.own = exchange.NewTransport(dialTimeout, keptUsers)
	c.own.Proxy, c.own.TLSClientConfig = http.ProxyFromEnvironment, cfg.TLS.Clone()
	c.send = c.own.RoundTrip // follows no redirect: masters send none, and a token goes to no other address
	return c, nil
}

// CloseIdle closes the connections that no call uses at the moment. The client can be used afterwards. It does nothing
// where Config.HTTP was given.
func (c *Client) CloseIdle() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// checkBase takes a node's URL apart and puts it into the form that paths are added to.
func checkBase(base string) (string, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrConfig, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("%w: %q is not the URL of a master: give one like http://127.0.0.1:8000", ErrConfig,
			u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%w: %q: a master's URL has no user, query or fragment", ErrConfig, u.Redacted())
	}
	return strings.TrimRight(base, "/"), nil
}
