package suite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// pollTime is how often a storage node is asked for the progress of a check or a repair.
const pollTime = 5 * time.Millisecond

// registry replaces the masters of storage nodes that are measured without a cluster. It registers every worker that
// asks, and orders checks and repairs as a leader does.
type registry struct {
	url     string
	token   string // file with the cluster token
	server  *http.Server
	served  chan error
	workers *noderpc.Workers

	mu     sync.Mutex        // guards all below
	tokens map[string]string // master token by URL of the storage node
}

// newRegistry serves on a free port of loopback until it is closed.
func newRegistry(dir string) (*registry, error) {
	r := &registry{token: filepath.Join(dir, "cluster.token"), served: make(chan error, 1), tokens: map[string]string{}}
	token := rand.Text()
	if err := durable.WriteFile(r.token, []byte(token), 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	secrets := nodeauth.Shared(token)
	r.url, r.workers = "http://"+listener.Addr().String(), noderpc.NewWorkers(noderpc.NewTransport(), secrets)
	engine := httpapi.New(hclog.NewNullLogger())
	nodes := &httpapi.Nodes{Accept: map[string]nodeauth.Accepted{nodeauth.Storage: {Secret: secrets.Storage}}}
	engine.Authenticate(nodes)
	engine.POST(wire.PathWorkers, engine.Requires(nodes, nodeauth.Storage), gin.WrapF(r.register))
	r.server = &http.Server{Handler: engine, ReadHeaderTimeout: 10 * time.Second}
	go func() { r.served <- r.server.Serve(listener) }()
	return r, nil
}

func (r *registry) close() error {
	r.workers.CloseIdle()
	err := r.server.Close()
	if served := <-r.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (r *registry) register(w http.ResponseWriter, q *http.Request) {
	var asked wire.Registration
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, 64<<10)).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := wire.Registered{ID: asked.ID, AccessToken: asked.AccessToken, Group: "bench"}
	if answer.ID == "" {
		answer.ID, answer.AccessToken = rand.Text(), rand.Text()
	}
	w.Header().Set("Content-Type", "application/json")
	if json.NewEncoder(w).Encode(answer) != nil {
		return // it asks again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[asked.URL] = asked.MasterToken
}

// worker returns a storage node's address and token once it has registered.
func (r *registry) worker(url string) (w wire.Worker, registered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token, registered := r.tokens[url]
	return wire.Worker{URL: url, Token: token}, registered
}

// storage is a storage node in a process of its own.
type storage struct {
	*child
	wire.Worker
	masters *registry
}

// leaderOrder is the leadership that a registry claims.
func leaderOrder() wire.Order { return wire.Order{Epoch: 1, Term: 1} }

// startStorage runs a storage node on a folder and waits until it has registered. The caller's thread must be locked:
// see child.
func (r *registry) startStorage(ctx context.Context, program, dir, log string) (*storage, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	c, err := startChild(log, program, "storage", "--data", dir, "--http", addr, "--masters", r.url,
		"--cluster-token-file", r.token)
	if err != nil {
		return nil, err
	}
	s := &storage{child: c, masters: r}
	err = c.await(ctx, log, func() bool {
		worker, registered := r.worker("http://" + addr)
		if !registered {
			return false
		}
		s.Worker = worker
		_, err = r.workers.StorageStatus(ctx, worker, leaderOrder())
		return err == nil
	})
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return s, nil
}

// poll calls ask until it is done or fails.
func poll(ctx context.Context, ask func() (done bool, err error)) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// check has the node check its chain as fast as it can, and waits for the end.
func (s *storage) check(ctx context.Context, name string, c built) error {
	o := wire.CheckOrder{Check: name, Height: c.height, Hash: c.hash}
	return poll(ctx, func() (bool, error) {
		status, err := s.masters.workers.Check(ctx, s.Worker, leaderOrder(), o)
		if err != nil || status.Report == nil {
			return false, err
		}
		return true, clean(status.Report, c)
	})
}

// clean returns an error if a check of the undamaged chain found anything.
func clean(r *wire.Report, c built) error {
	if len(r.Findings) > 0 || len(r.Bad) > 0 || r.Other || r.Unchecked != c.height {
		return fmt.Errorf("the check of a good chain of %d blocks found %+v, %d blocks checked", c.height, r.Findings,
			r.Unchecked)
	}
	return nil
}

// fill has one node send its whole chain to an empty one, and waits until that has it.
func (s *storage) fill(ctx context.Context, to *storage, c built) error {
	ticket := rand.Text()
	// One piece: the chain has fewer blocks than wire.MaxPiece.
	pieces := []wire.Piece{{Range: chain.Range{From: 0, To: c.height}, Hash: c.hash}}
	receive := wire.ReceiveOrder{Ticket: ticket, Keep: 0, Pieces: pieces}
	workers := s.masters.workers
	if _, err := workers.Receive(ctx, to.Worker, leaderOrder(), receive); err != nil {
		return err
	}
	send := wire.SendOrder{Ticket: ticket, Attempt: 1, To: to.URL, Pieces: pieces}
	err := poll(ctx, func() (bool, error) {
		status, err := workers.Send(ctx, s.Worker, leaderOrder(), send)
		if err == nil && status.Error != "" {
			err = fmt.Errorf("the transfer ended early: %s", status.Error)
		}
		return !status.Running, err
	})
	if err != nil {
		return err
	}
	has, err := workers.Receive(ctx, to.Worker, leaderOrder(), receive)
	if err == nil && (has.Height != c.height || has.Hash != c.hash || len(has.Missing) > 0) {
		err = fmt.Errorf("%d blocks with head %v, sent were %d, %v", has.Height, has.Hash, c.height, c.hash)
	}
	return err
}
