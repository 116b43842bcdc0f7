package masternode

import (
	"errors"
	"fmt"
	"strings"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// refused turns a refusal of the state machine into the error of this package that stands for it.
func (n *Node) refused(err error, project uint32, p masterfsm.Placement) error {
	switch {
	case p.Shortage != nil:
		return (*wire.QuotaError)(p.Shortage)
	case errors.Is(err, masterfsm.ErrOversize):
		var q masterfsm.Quota
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			p, _ := s.Project(project)
			q = p.Quota
		})
		return fmt.Errorf("%w; the quota is %s; nothing was appended, send smaller records or fewer at once", err, quotaText(q))
	case errors.Is(err, masterfsm.ErrUnknownProject):
		return fmt.Errorf("%w: %w", wire.ErrUnauthorized, err)
	}
	return err
}

// quotaText says a quota in words.
func quotaText(q masterfsm.Quota) string {
	var parts []string
	add := func(limit uint64, what string) {
		if limit != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", limit, what))
		}
	}
	add(q.RecordBytes, "bytes a record")
	add(q.RecordsPerSecond, "records a second")
	add(q.BytesPerSecond, "bytes a second")
	return strings.Join(parts, ", ")
}
