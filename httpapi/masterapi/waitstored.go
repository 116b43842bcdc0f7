package masterapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// maxWait bounds ?timeout= of an append that waits.
const maxWait = time.Minute

// waitOf reads ?wait=stored&timeout=5s. Zero means not to wait.
func waitOf(c *gin.Context) (time.Duration, error) {
	switch wait := c.Query("wait"); wait {
	case "":
		return 0, nil
	case wire.StateStored:
	default:
		return 0, fmt.Errorf("%w: wait=%s; an append can wait for %q only", wire.ErrBadRequest, wait, wire.StateStored)
	}
	timeout := c.DefaultQuery("timeout", "5s")
	d, err := time.ParseDuration(timeout)
	if err != nil || d <= 0 || d > maxWait {
		return 0, fmt.Errorf("%w: timeout=%s; write it like 5s, at most %v", wire.ErrBadRequest, timeout, maxWait)
	}
	return d, nil
}

// waiting is the context of an append that waits. It also ends when the server is told to stop, so that a client whose
// record is committed gets its position rather than a closed connection.
func waiting(c *gin.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	draining, stop := httpapi.UntilDrain(c.Request.Context())
	ctx, cancel := context.WithTimeout(draining, wait)
	return ctx, func() {
		cancel()
		stop()
	}
}

// answerStored answers an append of one record once its block is stored, and with the record's receipt if that comes
// in time. The status is 202 where the block is not stored in time: the record is committed either way. A stored
// record is a success whatever delays its receipt, which can be requested later.
func (m *master) answerStored(c *gin.Context, wait time.Duration, at wire.Position) error {
	ctx, cancel := waiting(c, wait)
	defer cancel()
	positions := []wire.Position{at}
	status := m.waitStored(ctx, positions)
	answer := wire.Appended{Position: positions[0]}
	if status == http.StatusCreated {
		receipt, err := m.node.WaitReceipt(ctx, at)
		if err == nil {
			answer.Receipt = &receipt
		} else {
			m.Log.Debug("an append is answered without its receipt", "index", at.Index, "error", err)
		}
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	c.Data(status, typeJSON, encoded)
	return nil
}

// waitStored waits for the block of the last position, marks all positions as stored, and returns the status of the
// answer: 202 if ctx ends first.
func (m *master) waitStored(ctx context.Context, positions []wire.Position) int {
	if err := m.node.WaitStored(ctx, positions[len(positions)-1].Block); err != nil {
		return http.StatusAccepted
	}
	for i := range positions {
		positions[i].State = wire.StateStored
	}
	return http.StatusCreated
}
