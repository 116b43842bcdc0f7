package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Cluster reads the cluster's status table.
func (c *Client) Cluster(ctx context.Context) (wire.Cluster, error) {
	return read(ctx, c, "/v1/cluster", exchange.MaxMedium, func(s *wire.Cluster) error {
		return needs(s.Storages != nil && s.Miners != nil, "storages and miners")
	})
}

// Profile takes a profile of the process of a node, compressed, in the format of pprof. It needs the admin token. The
// error wraps [wire.ErrNotFound] if there is no such node, [wire.ErrProfiling] if it is taking another profile, and
// [wire.ErrUnavailable] if it does not answer.
func (c *Client) Profile(ctx context.Context, profile wire.ProfileRequest) (data []byte, err error) {
	body, err := json.Marshal(profile)
	if err != nil {
		return nil, err
	}
	q := c.newQuery(http.MethodPost, "/v1/profiles", exchange.MaxMedium)
	q.header["Content-Type"] = exchange.TypeJSON
	q.body, q.patience = body, time.Duration(profile.Seconds)*time.Second
	err = c.do(ctx, q, func(a *exchange.Answer) error {
		if err := a.Expect(wire.TypeOctets); err != nil {
			return err
		}
		z, err := gzip.NewReader(bytes.NewReader(a.Body))
		if err == nil {
			_, err = io.Copy(io.Discard, z) // this compares the checksum
		}
		if err != nil {
			return fmt.Errorf("%s: %w: it is not a compressed profile: %w", a.Base, ErrAnswer, err)
		}
		data = a.Body
		return nil
	})
	return data, err
}

// RemoveMaster removes a master from the group permanently. It needs the admin token. id is the master's id or its URL.
// The error wraps [wire.ErrTooFewMasters] if the remaining masters could not elect a leader, unless force is set. It
// wraps [wire.ErrNotFound] if there is no such master, and no earlier try of this call may have removed it.
func (c *Client) RemoveMaster(ctx context.Context, id string, force bool) error {
	return c.remove(ctx, "/v1/masters/"+url.PathEscape(id), force)
}

// ApproveWorker lets a worker in that waits for approval. It becomes part of the cluster with its next registration,
// within seconds. It needs an admin token with the role admin. The error wraps [wire.ErrNotFound] if no such worker
// waits, and no earlier try of this call may have let it in.
func (c *Client) ApproveWorker(ctx context.Context, id string) (wire.WaitingWorker, error) {
	return command[wire.WaitingWorker](ctx, c, http.MethodPost, "/v1/waiting-workers/"+url.PathEscape(id)+"/approve",
		nil, true, func(w *wire.WaitingWorker) error {
			if w.ID != id || !w.Approved {
				return fmt.Errorf("%w: it is about the worker %q", ErrAnswer, w.ID)
			}
			return nil
		})
}

// RefuseWorker refuses a worker permanently that waits for approval. It needs an admin token with the role admin. The
// error wraps [wire.ErrNotFound] if no such worker waits, and no earlier try of this call may have refused it.
func (c *Client) RefuseWorker(ctx context.Context, id string) error {
	return c.remove(ctx, "/v1/waiting-workers/"+url.PathEscape(id), false)
}

// SetTime moves the time of the group forward, unix milliseconds. It needs the admin token. The error wraps
// [wire.ErrBadRequest] if the time is not later than that of the group, more than a day later without force, or if the
// masters' clocks agree.
func (c *Client) SetTime(ctx context.Context, to uint64, force bool) (wire.TimeSet, error) {
	return command[wire.TimeSet](ctx, c, http.MethodPost, "/v1/time", wire.SetTime{Time: to, Force: force}, true,
		func(s *wire.TimeSet) error {
			if s.Time != to {
				return fmt.Errorf("%w: it is about the time %d", ErrAnswer, s.Time)
			}
			return nil
		})
}

// ChangeSettings changes settings of the group and returns all of them. It needs the admin token. The error wraps
// [wire.ErrBadRequest] if a setting is outside its limits.
func (c *Client) ChangeSettings(ctx context.Context, change wire.SettingsChange) (wire.Settings, error) {
	return command[wire.Settings](ctx, c, http.MethodPatch, "/v1/settings", change, true,
		func(s *wire.Settings) error {
			return needs(s.MaxRecords > 0, "max_records")
		})
}

// SetTLS changes the step of the move to TLS. It needs the admin token. The error wraps [wire.ErrNotOnTLS] if a node
// does not speak TLS yet, and [wire.ErrBadRequest] if the step does not follow the present one.
func (c *Client) SetTLS(ctx context.Context, to wire.TLSStep) error {
	_, err := command[wire.TLSChange](ctx, c, http.MethodPost, "/v1/tls", wire.TLSChange{Step: to}, true,
		func(t *wire.TLSChange) error {
			if t.Step != to {
				return fmt.Errorf("%w: it is about the step %q", ErrAnswer, t.Step)
			}
			return nil
		})
	return err
}

// TransferLeadership makes another master the leader: the one with an id or URL, or with to "" the one that has most of
// the log. It returns the id of the new leader. It needs the admin token. The error wraps [wire.ErrNotVoter] if that
// master cannot lead.
func (c *Client) TransferLeadership(ctx context.Context, to string) (string, error) {
	done, err := command[wire.Transferred](ctx, c, http.MethodPost, "/v1/leader/transfer", wire.Transfer{To: to}, true,
		func(t *wire.Transferred) error { return needs(t.Leader != "", "leader") })
	return done.Leader, err
}
