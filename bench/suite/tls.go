package suite

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/devcluster"
)

const (
	// plainOffset and tlsOffset are the base ports of the two clusters, above that of the benchmark.
	plainOffset = 500
	tlsOffset   = 600
	// inPlain is the end of the name of a scenario without TLS.
	inPlain = "-plain"
)

// tls measures a cluster with TLS, and one without. Both are there all the time, and their runs are in turn, so that
// what changes on the machine changes both. The load generator speaks TLS in this process.
func (b *bench) tls(ctx context.Context, scenarios []scenario) (err error) {
	b.note("tls-*: two clusters, with TLS everywhere and without, run by run in turn; all connections are kept.")
	var pair []*system
	defer func() {
		for _, sys := range pair {
			sys.client.CloseIdle()
			err = errors.Join(err, sys.cluster.Stop())
		}
	}()
	for _, c := range []struct {
		name   string
		offset int
		secure bool
	}{{"plain", plainOffset, false}, {"tls", tlsOffset, true}} {
		topology := devcluster.NewTopology(filepath.Join(b.dir, c.name), b.cfg.Port+c.offset)
		topology.CheckInterval, topology.TLS = 0, c.secure
		cluster, err := devcluster.Start(ctx, topology, b.cfg.Program)
		if err != nil {
			return err
		}
		sys, err := newSystem(cluster)
		if err != nil {
			return errors.Join(err, cluster.Stop())
		}
		pair = append(pair, sys)
	}
	for _, s := range scenarios {
		if err := b.inTurn(ctx, pair, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for len(pair) > 0 {
		sys := pair[0]
		status, err := sys.settle(ctx)
		if err != nil {
			return err
		}
		pair = pair[1:]
		sys.client.CloseIdle()
		if err := sys.cluster.Stop(); err != nil {
			return err
		}
		chain, err := b.verify(ctx, sys, status.Head)
		if err != nil {
			return err
		}
		b.note("tls-*, cluster %s: every storage node has a valid chain, with %s records (%s acknowledged).",
			filepath.Base(sys.cluster.Topology().Dir), thousands(float64(chain.Records)),
			thousands(float64(chain.Acknowledged)))
	}
	return nil
}

// inTurn measures a scenario of both clusters, first without TLS.
func (b *bench) inTurn(ctx context.Context, pair []*system, s scenario) (err error) {
	plain := s
	plain.name, plain.title = s.name+inPlain, s.title+" off"
	var loads [2]*loading
	for i, s := range []scenario{plain, s} {
		sys := pair[i]
		var f fleet
		if s.work == workRead {
			if f, err = b.readers(ctx, sys, s); err != nil {
				return err
			}
		}
		leader, err := sys.leader(ctx)
		if err != nil {
			return err
		}
		if s.work == workAppend {
			f = sys.appenders(s, sys.hosts)
		}
		if loads[i], err = b.connect(ctx, s, f, sys.tested.leading(sys.names[leader])); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.close()) }()
	}
	for run := range b.cfg.Runs {
		for _, l := range loads {
			if err := l.run(ctx, run); err != nil {
				return err
			}
		}
	}
	for i, l := range loads {
		if s.work == workAppend {
			pair[i].acknowledged += l.answered * uint64(s.batch)
		}
		r, err := l.result()
		if err != nil {
			return err
		}
		b.done(l.s, r)
	}
	return nil
}

// trusting returns the TLS configuration of clients that trust the authority in a file, nil for "".
func trusting(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}, nil
}
