package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// startForRepairs is like start, with large blocks, so that a chain of many megabytes can be created quickly.
func startForRepairs(t *testing.T) *cluster {
	t.Helper()
	return startWith(t, largeBlocks)
}

func largeBlocks(topology *devcluster.Topology) { topology.Settings.MaxBytes = 256 << 10 }

// recordBytes is the payload size of the records that make a chain long.
const recordBytes = 32 << 10

// bulk returns unique records with payloads of recordBytes.
func bulk(name string, records int) []client.Entry {
	var seed [32]byte
	copy(seed[:], name)
	random := rand.NewChaCha8(seed)
	entries := make([]client.Entry, records)
	for i := range entries {
		entries[i] = client.Entry{Payload: make([]byte, recordBytes), Key: fmt.Sprintf("%s/%d", name, i)}
		_, _ = random.Read(entries[i].Payload) // never fails
	}
	return entries
}

// fill appends records of a total size in MiB, and waits until every storage node has them.
func (c *cluster) fill(o *oracle, name string, mib, storages int) {
	c.t.Helper()
	cl := c.client(c.File().Masters...)
	var writers errgroup.Group
	writers.SetLimit(3)
	for i := range mib {
		writers.Go(func() error {
			entries := bulk(fmt.Sprintf("%s-%d", name, i), (1<<20)/recordBytes)
			at, err := cl.AppendBatch(c.t.Context(), entries, "")
			if err != nil {
				return err
			}
			o.ack(entries, at)
			return nil
		})
	}
	if err := writers.Wait(); err != nil {
		c.t.Fatal(err)
	}
	c.awaitSettled(storages)
}

// awaitIntegrity waits for a condition of the integrity status, and returns the status.
func (c *cluster) awaitIntegrity(what string, missing func(wire.Integrity) string) wire.Integrity {
	c.t.Helper()
	var i wire.Integrity
	c.await(what, func() string {
		var err error
		if i, err = c.tryStory(); err != nil {
			return err.Error()
		}
		return missing(i)
	})
	return i
}

// isValid returns a condition that describes why the node at a URL is not valid.
func isValid(url string) func(wire.Integrity) string {
	return func(i wire.Integrity) string {
		if n := nodeAt(i, url); n.State != "valid" || !n.Live {
			return fmt.Sprintf("%+v", i.Nodes)
		}
		return ""
	}
}

// awaitReceiving waits until the leader reports progress of a repair of the node at a URL. It returns the role of the
// sender.
func (c *cluster) awaitReceiving(url string) (sender string) {
	c.t.Helper()
	c.awaitIntegrity(url+" receiving", func(i wire.Integrity) string {
		n := nodeAt(i, url)
		if n.State != "receiving" || n.Task == nil || n.Task.Kind != "receive" {
			return fmt.Sprintf("%+v, task %+v", n, n.Task)
		}
		for _, other := range i.Nodes {
			if other.ID == n.Task.Peer {
				sender = c.nameOf(other.URL)
			}
		}
		if sender == "" {
			return fmt.Sprintf("it is sent by %s, of %+v", n.Task.Peer, i.Nodes)
		}
		return ""
	})
	return sender
}

// wipe removes everything in a data folder except the named files.
func (c *cluster) wipe(dir string, but ...string) {
	c.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(but, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			c.t.Fatal(err)
		}
	}
}

// listing returns the names, sizes and times of all files of a folder.
func (c *cluster) listing(dir string) []string {
	c.t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			list = append(list, fmt.Sprintf("%s: %d bytes, written at %v", path, info.Size(),
				info.ModTime().UnixNano()))
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// relay is a reverse proxy in front of a storage node that is not in the topology. The other roles only know the
// address of the relay. It forwards everything, but can disturb transfers.
type relay struct {
	c      *cluster
	role   devcluster.Role
	script string // the shell script that runs the node
	server *httptest.Server
	over   chan struct{} // closed: transfers are not held any more

	mu        sync.Mutex // guards the fields below
	transfers []*transfer
	fates     []fate // of the next transfers; later ones are forwarded unchanged
}

// fate describes the faults of a transfer. If two are due at the same byte, they occur in the order of the fields. A
// zero field has no effect.
type fate struct {
	hold *hold // pauses the transfer until it is released
	cut  int64 // breaks the connections after this many bytes
	flip int64 // changes the byte at this offset
}

// hold pauses a transfer after a number of bytes, until it is released.
type hold struct {
	at      int64
	reached chan struct{}
	goOn    chan struct{}
}

func holdAt(at int64) *hold {
	return &hold{at: at, reached: make(chan struct{}), goOn: make(chan struct{})}
}

// transfer is a transfer through the relay. The relay's lock guards it.
type transfer struct {
	ticket string
	fate   fate
	bytes  int64
	begin  []byte // the first bytes, at most keptOfTransfer
	status int    // of the receiver's response, 0 if there was none
}

const keptOfTransfer = 100 << 10

var errCut = errors.New("the connection is cut here")

// newRelay creates a relay for a storage node beyond those of the topology; startNode starts the node.
func (c *cluster) newRelay() *relay {
	c.t.Helper()
	topology := c.Topology()
	topology.Storages++
	r := &relay{c: c, role: roleOf(topology, fmt.Sprintf("storage-%d", topology.Storages)), over: make(chan struct{})}
	target, err := url.Parse(r.role.URL())
	if err != nil {
		c.t.Fatal(err)
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: statusTimeout}).DialContext}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			if p.In.URL.Path == wire.PathTransfer {
				r.enter(p.Out)
			}
		},
		ModifyResponse: r.answered,
		// Break the connection.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		Transport:    transport,
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	r.server = httptest.NewUnstartedServer(proxy)
	r.server.Config.ErrorLog = proxy.ErrorLog
	r.server.Start()
	c.t.Cleanup(func() {
		close(r.over)
		r.server.CloseClientConnections()
		r.server.Close()
		transport.CloseIdleConnections()
	})
	r.script = filepath.Join(c.dir, "advertised.sh")
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\" --advertise '%s'\n", binary, r.server.URL)
	if err := os.WriteFile(r.script, []byte(script), 0o700); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// url returns the URL at which the cluster reaches the node.
func (r *relay) url() string { return r.server.URL }

// startNode starts the node behind the relay.
func (r *relay) startNode() {
	r.c.t.Helper()
	if r.c.fourth.launcher == nil {
		r.c.fourth.launcher = devcluster.NewProcesses(r.script)
	}
	var err error
	if r.c.fourth.running, err = r.c.fourth.launcher.Launch(r.c.Topology(), r.role, r.c.File().Tokens); err != nil {
		r.c.t.Fatal(err)
	}
}

// killNode ends the node with SIGKILL.
func (r *relay) killNode() {
	r.c.t.Helper()
	r.c.signal(r.role.Name, r.c.fourth.running.PID(), syscall.SIGKILL)
	<-r.c.fourth.running.Done()
	r.c.fourth.running = nil
}

// next sets the fates of the next transfers, and forgets earlier transfers.
func (r *relay) next(fates ...fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transfers, r.fates = nil, fates
}

// holdNext pauses the next transfer.
func (r *relay) holdNext(at int64) *hold {
	h := holdAt(at)
	r.next(fate{hold: h})
	return h
}

// seen returns the transfers since the last call of next.
func (r *relay) seen() []transfer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []transfer
	for _, t := range r.transfers {
		all = append(all, *t)
	}
	return all
}

// carried returns the total bytes of all transfers since the last call of next.
func (r *relay) carried() (bytes int64) {
	for _, t := range r.seen() {
		bytes += t.bytes
	}
	return bytes
}

// awaitHeld waits until a transfer is paused.
func (r *relay) awaitHeld(h *hold) {
	r.c.t.Helper()
	r.c.await("a transfer on its way", func() string {
		select {
		case <-h.reached:
			return ""
		default:
			return fmt.Sprintf("%d bytes came", r.carried())
		}
	})
}

// transferKey is the context key of a request's transfer.
type transferKey struct{}

// enter records a transfer, and inserts a passage into its stream.
func (r *relay) enter(out *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &transfer{ticket: strings.TrimPrefix(out.Header.Get("Authorization"), "Bearer ")}
	if len(r.fates) > 0 {
		t.fate, r.fates = r.fates[0], r.fates[1:]
	}
	r.transfers = append(r.transfers, t)
	out.Body = &passage{relay: r, transfer: t, from: out.Body}
	*out = *out.WithContext(context.WithValue(out.Context(), transferKey{}, t))
}

// answered records the status of the receiver's response.
func (r *relay) answered(response *http.Response) error {
	if t, ok := response.Request.Context().Value(transferKey{}).(*transfer); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		t.status = response.StatusCode
	}
	return nil
}

// passage is the stream of a transfer through the relay.
type passage struct {
	relay    *relay
	transfer *transfer
	from     io.ReadCloser
}

func (p *passage) Close() error { return p.from.Close() }

func (p *passage) Read(b []byte) (int, error) {
	p.relay.mu.Lock()
	at, f := p.transfer.bytes, p.transfer.fate
	p.relay.mu.Unlock()
	if f.hold != nil && at <= f.hold.at {
		if at == f.hold.at {
			close(f.hold.reached)
			select {
			case <-f.hold.goOn:
			case <-p.relay.over:
				return 0, errCut
			}
			p.relay.mu.Lock()
			p.transfer.fate.hold = nil
			p.relay.mu.Unlock()
		} else {
			b = b[:min(int64(len(b)), f.hold.at-at)]
		}
	}
	if f.cut > 0 {
		if at == f.cut {
			return 0, errCut
		}
		b = b[:min(int64(len(b)), f.cut-at)]
	}
	n, err := p.from.Read(b)
	if f.flip > 0 && at <= f.flip && f.flip < at+int64(n) {
		b[f.flip-at] ^= 0x20
	}
	p.relay.mu.Lock()
	defer p.relay.mu.Unlock()
	p.transfer.bytes += int64(n)
	if room := keptOfTransfer - len(p.transfer.begin); room > 0 {
		p.transfer.begin = append(p.transfer.begin, b[:min(n, room)]...)
	}
	return n, err
}
