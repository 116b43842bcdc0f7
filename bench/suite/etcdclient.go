package suite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// etcdClient puts values through etcd's own client, on one connection, one request at a time. One goroutine uses it.
type etcdClient struct {
	endpoint string // URL
	puts     *etcdPuts
	batch    int // puts of one request; more than one are a transaction

	client *clientv3.Client
	ctx    context.Context // of the requests; it ends at the deadline that until has set
	cancel context.CancelFunc
	base   context.Context
	closed bool
}

func (c *etcdClient) connect(ctx context.Context) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{c.endpoint}, DialTimeout: dialTimeout, Context: ctx, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	if err := ready(ctx, client.ActiveConnection()); err != nil {
		return fmt.Errorf("connect to %s: %w", c.endpoint, errors.Join(err, client.Close()))
	}
	c.client, c.closed = client, false
	c.base, c.ctx, c.cancel = ctx, ctx, func() {}
	return nil
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

func (c *etcdClient) until(t time.Time) error {
	c.cancel()
	c.ctx, c.cancel = context.WithDeadline(c.base, t)
	return nil
}

// request makes one request. The error is a *refusal if the connection can be used further.
func (c *etcdClient) request() error {
	var err error
	if c.batch > 1 {
		_, err = c.client.Txn(c.ctx).Then(c.puts.next(c.batch)...).Commit()
	} else {
		_, err = c.client.Do(c.ctx, c.puts.next(1)[0])
	}
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		return err
	default:
		return &refusal{err.Error()}
	}
}

// close may be called twice.
func (c *etcdClient) close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.cancel()
	if err := c.client.Close(); !errors.Is(err, c.base.Err()) {
		return err
	}
	return nil
}

// etcdPuts makes puts of a client's payload under keys of 16 bytes: client u64 ‖ counter u64. Each key is new, as a
// position in the chain is.
type etcdPuts struct {
	key, value []byte
	count      uint64
}

func newEtcdPuts(client uint64) *etcdPuts {
	return &etcdPuts{key: binary.BigEndian.AppendUint64(nil, client), value: payload(client)}
}

func (p *etcdPuts) next(n int) []clientv3.Op {
	ops := make([]clientv3.Op, n)
	for i := range ops {
		key := binary.BigEndian.AppendUint64(p.key[:8:8], p.count)
		ops[i] = clientv3.OpPut(string(key), string(p.value))
		p.count++
	}
	return ops
}
