package suite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// etcdClient makes requests through etcd's own client, on one connection.
type etcdClient = rpcClient[*clientv3.Client]

// newEtcdClient returns a client of a member at a URL.
func newEtcdClient(endpoint string, call func(context.Context, *clientv3.Client) error) *etcdClient {
	return &etcdClient{call: call, dial: func(ctx context.Context) (*clientv3.Client, error) {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{endpoint}, DialTimeout: dialTimeout, Context: ctx, Logger: zap.NewNop(),
		})
		if err != nil {
			return nil, err
		}
		if err := ready(ctx, client.ActiveConnection()); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", endpoint, errors.Join(err, client.Close()))
		}
		return client, nil
	}}
}

// ready waits until the connection is there. The client itself would connect with the first request.
func ready(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn.Connect()
	for {
		switch state := conn.GetState(); state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return fmt.Errorf("the gRPC connection is in state %v", state)
		default:
			if !conn.WaitForStateChange(ctx, state) {
				return ctx.Err()
			}
		}
	}
}

// newKey returns the key of a client's next value: client u64 ‖ counter u64.
func newKey(client, count uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, client), count)
}

// etcdPuts makes puts of a client's payload. Each key is new, as a position in the chain is.
type etcdPuts struct {
	client uint64
	value  []byte
	count  uint64
}

func newEtcdPuts(client uint64) *etcdPuts { return &etcdPuts{client: client, value: payload(client)} }

func (p *etcdPuts) next(n int) []clientv3.Op {
	ops := make([]clientv3.Op, n)
	for i := range ops {
		ops[i] = clientv3.OpPut(string(newKey(p.client, p.count)), string(p.value))
		p.count++
	}
	return ops
}

// putter returns calls that put n values each. More than one are a transaction.
func putter(client uint64, n int) func(context.Context, *clientv3.Client) error {
	puts := newEtcdPuts(client)
	return func(ctx context.Context, c *clientv3.Client) error { return puts.commit(ctx, c, n) }
}

// commit puts the next n values in one request.
func (p *etcdPuts) commit(ctx context.Context, c *clientv3.Client, n int) error {
	ops := p.next(n)
	if n > 1 {
		_, err := c.Txn(ctx).Then(ops...).Commit()
		return err
	}
	_, err := c.Do(ctx, ops[0])
	return err
}

// seedClient is the number of the client whose keys are read.
const seedClient = math.MaxUint64

// seedEtcd puts values under the first n keys of the client seedClient and compacts everything before the last one. It
// calls progress by one goroutine at a time.
func seedEtcd(ctx context.Context, c *clientv3.Client, n int, progress func(done int)) error {
	const writers = 16
	g, inner := errgroup.WithContext(ctx)
	var next atomic.Int64
	var mu sync.Mutex // held while progress runs
	for range writers {
		g.Go(func() error {
			puts := newEtcdPuts(seedClient)
			for {
				first := int(next.Add(batchSize)) - batchSize
				if first >= n {
					return nil
				}
				puts.count = uint64(first)
				if err := puts.commit(inner, c, min(batchSize, n-first)); err != nil {
					return fmt.Errorf("put the keys that are read: %w", err)
				}
				mu.Lock()
				progress(first)
				mu.Unlock()
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	last, err := c.Get(ctx, string(newKey(seedClient, uint64(n-1))))
	if err != nil {
		return err
	}
	_, err = c.Compact(ctx, last.Header.Revision, clientv3.WithCompactPhysical())
	return err
}

// getter returns calls that read random keys of the first n of the client seedClient, each with the same probability.
func getter(n int, stale bool) func(context.Context, *clientv3.Client) error {
	var options []clientv3.OpOption
	if stale {
		options = append(options, clientv3.WithSerializable())
	}
	random := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))
	return func(ctx context.Context, c *clientv3.Client) error {
		key := newKey(seedClient, random.Uint64N(uint64(n)))
		got, err := c.Get(ctx, string(key), options...)
		if err != nil {
			return err
		}
		if len(got.Kvs) != 1 {
			return &refusal{fmt.Sprintf("%d values for key %x, wanted 1", len(got.Kvs), key)}
		}
		if err := isPayload(got.Kvs[0].Value); err != nil {
			return &refusal{err.Error()}
		}
		return nil
	}
}
