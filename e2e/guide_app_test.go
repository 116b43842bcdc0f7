package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

const (
	// guideWriters is the number of writers of the application. Each second one makes a connection for each request.
	guideWriters = 4
	// guidePace is the pause of a writer between two records. The cluster has nine processes.
	guidePace = 20 * time.Millisecond
)

// guideApp is the application of the guide. It is at the workstation, has the token shop.token, or shop-2.token once
// the guide has made that, and trusts the authorities in users-ca.pem as they are at the moment.
type guideApp struct {
	h       *guideHosts
	t       *testing.T
	stop    context.CancelFunc
	writers sync.WaitGroup
	rounds  [guideWriters]atomic.Int64 // requests that each writer has begun

	mu      sync.Mutex // guards all below
	written []guideRecord
	longest time.Duration // of a round
	failed  error
}

// guideRecord is an acknowledged record.
type guideRecord struct {
	at      wire.Position
	payload []byte
}

// startApp starts the writers. They end with the test.
func (h *guideHosts) startApp() *guideApp {
	ctx, cancel := context.WithCancel(h.t.Context())
	a := &guideApp{h: h, t: h.t, stop: cancel}
	for i := range guideWriters {
		a.writers.Go(func() { a.write(ctx, i) })
	}
	h.t.Cleanup(func() {
		cancel()
		a.writers.Wait()
	})
	return a
}

// transport reaches the nodes from the workstation by their names.
func (a *guideApp) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			node := strings.TrimSuffix(host, guideDomain)
			return a.h.ns.dial(ctx, network, net.JoinHostPort(a.h.ns.addresses[node], port))
		},
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // VerifyConnection verifies with the present file
			VerifyConnection: func(state tls.ConnectionState) error {
				data, err := os.ReadFile(a.h.file("users-ca.pem"))
				if err != nil {
					return err
				}
				pool := x509.NewCertPool()
				pool.AppendCertsFromPEM(data)
				_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: state.ServerName})
				return err
			},
		},
	}
}

// urls are the masters.
func (a *guideApp) urls() (urls []string) {
	for _, node := range guideNodes {
		urls = append(urls, "https://"+node+guideDomain+":8000")
	}
	return urls
}

// token returns the token that the guide has given to the application.
func (a *guideApp) token() (string, error) {
	for _, name := range []string{"shop-2.token", "shop.token"} {
		data, err := os.ReadFile(a.h.file(name))
		if token := strings.TrimSpace(string(data)); token != "" {
			return token, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return "", errors.New("the application has no token")
}

// write appends records and reads them, one after the other. The first request that fails ends it.
func (a *guideApp) write(ctx context.Context, number int) {
	transport := a.transport()
	transport.DisableKeepAlives = number%2 == 1
	defer transport.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		a.rounds[number].Add(1)
		begin := time.Now()
		err := a.round(ctx, transport, number, fmt.Appendf(nil, "record %d of writer %d", i, number))
		a.mu.Lock()
		a.longest = max(a.longest, time.Since(begin))
		a.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			a.mu.Lock()
			a.failed = errors.Join(a.failed, fmt.Errorf("request %d of writer %d, at %v: %w", i, number,
				time.Now().Format(time.StampMilli), err))
			a.mu.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(guidePace):
		}
	}
}

// round appends a record and reads it, with a client as an application has it, which retries. Writers begin with
// different masters.
func (a *guideApp) round(ctx context.Context, transport *http.Transport, number int, payload []byte) error {
	token, err := a.token()
	if err != nil {
		return err
	}
	urls := a.urls()
	first := number % len(urls)
	c, err := client.New(client.Config{
		Masters: slices.Concat(urls[first:], urls[:first]), Token: token, HTTP: &http.Client{Transport: transport},
	})
	if err != nil {
		return err
	}
	at, err := c.Append(ctx, client.Entry{Payload: payload})
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	a.mu.Lock()
	a.written = append(a.written, guideRecord{at, payload})
	a.mu.Unlock()
	return readSame(ctx, c, guideRecord{at, payload})
}

// readSame reads a record and compares it.
func readSame(ctx context.Context, c *client.Client, r guideRecord) error {
	read, err := c.Get(ctx, r.at.Block, r.at.Offset)
	switch {
	case err != nil:
		return fmt.Errorf("read block %d, offset %d: %w", r.at.Block, r.at.Offset, err)
	case !bytes.Equal(read.Payload, r.payload) || read.Index != r.at.Index || read.Leaf != r.at.Leaf:
		return fmt.Errorf("block %d, offset %d has %q at index %d, want %q at %d", r.at.Block, r.at.Offset,
			read.Payload, read.Index, r.payload, r.at.Index)
	}
	return nil
}

// settle waits until every writer has ended its request and done another one. So it uses the present token, and the
// cluster works after the last block of the guide.
func (a *guideApp) settle() {
	a.t.Helper()
	var before [guideWriters]int64
	for i := range a.rounds {
		before[i] = a.rounds[i].Load()
	}
	deadline := time.Now().Add(patience)
	for i := range a.rounds {
		for a.rounds[i].Load() < before[i]+2 {
			a.check()
			if time.Now().After(deadline) {
				a.t.Fatalf("writer %d of the application does not come on\n%s", i, a.h.logs())
			}
			time.Sleep(pollEvery)
		}
	}
	a.check()
}

// check fails the test if a request has failed.
func (a *guideApp) check() {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed != nil {
		a.t.Fatalf("the application: %v\n%s", a.failed, a.h.logs())
	}
}

// end stops the writers.
func (a *guideApp) end() {
	a.t.Helper()
	a.stop()
	a.writers.Wait()
	a.check()
}

// readBack reads all acknowledged records, each through one of the masters.
func (a *guideApp) readBack() {
	a.t.Helper()
	token, err := a.token()
	if err != nil {
		a.t.Fatal(err)
	}
	transport := a.transport()
	defer transport.CloseIdleConnections()
	var clients []*client.Client
	for _, url := range a.urls() {
		c, err := client.New(client.Config{
			Masters: []string{url}, Token: token, HTTP: &http.Client{Transport: transport}, RetryFor: patience,
		})
		if err != nil {
			a.t.Fatal(err)
		}
		clients = append(clients, c)
	}
	places := map[uint64]bool{}
	for i, r := range a.written {
		if places[r.at.Index] {
			a.t.Errorf("two records were acknowledged at index %d", r.at.Index)
		}
		places[r.at.Index] = true
		if err := readSame(a.t.Context(), clients[i%len(clients)], r); err != nil {
			a.t.Errorf("a record that was acknowledged: %v", err)
		}
	}
	a.t.Logf("the application has appended and read %d records; the longest took %v", len(a.written), a.longest)
}
