package suite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/wire"
)

// verify runs the full verifier over every storage node's folder of a stopped cluster, and returns the verdicts. It
// fails if a chain is not valid, ends at another head than the cluster's, or lacks acknowledged records.
func (b *bench) verify(ctx context.Context, sys *system, head wire.Head) (*Chain, error) {
	c := &Chain{
		Blocks: head.Height, Records: head.Size - head.Height, // a seal a block
		Acknowledged: sys.acknowledged, Head: head.Hash.String(), Nodes: []Verify{},
	}
	var errs []error
	for _, node := range sys.cluster.File().Storages {
		name := filepath.Base(node.Data)
		b.tell(fmt.Sprintf("verifying %s", name), false)
		s, err := audit.Verify(ctx, node.Data, nil)
		switch {
		case err != nil:
		case s.Height != head.Height || s.Hash != head.Hash:
			err = fmt.Errorf("%d blocks with head %v, the cluster's head is %d blocks, %v", s.Height, s.Hash,
				head.Height, head.Hash)
		case s.Records != c.Records:
			err = fmt.Errorf("%d records, the cluster has %d", s.Records, c.Records)
		}
		v := Verify{Name: name, Valid: err == nil}
		if err != nil {
			v.Problem = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		c.Nodes = append(c.Nodes, v)
	}
	if c.Records < c.Acknowledged {
		errs = append(errs, fmt.Errorf("%d records were acknowledged, the chain has %d", c.Acknowledged, c.Records))
	}
	b.tell(fmt.Sprintf("verified %d storage nodes", len(c.Nodes)), true)
	return c, errors.Join(errs...)
}
