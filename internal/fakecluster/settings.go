package fakecluster

import (
	"net/http"

	"github.com/chainstore/chainstore/wire"
)

// setTime sets the time of the group, which is ten minutes behind.
func (c *Cluster) setTime(w http.ResponseWriter, r *http.Request, _ caller) {
	var to wire.SetTime
	if !c.decode(w, r, &to) {
		return
	}
	was := c.now() - 10*60*1000
	if to.Time <= was || to.Time > was+24*60*60*1000 && !to.Force {
		Problem(w, wire.ErrBadRequest)
		return
	}
	reply(w, http.StatusOK, wire.TimeSet{Time: to.Time, Was: was})
}

// changeSettings answers with the changed settings, and does not keep them.
func (c *Cluster) changeSettings(w http.ResponseWriter, r *http.Request, _ caller) {
	settings := wire.Settings{MaxRecords: 16_384, Replicas: 2, KeyAge: 600_000}
	if !c.decode(w, r, &settings) {
		return
	}
	if settings.Replicas == 0 {
		Problem(w, wire.ErrBadRequest)
		return
	}
	reply(w, http.StatusOK, settings)
}

// setTLS answers with the step, and does not keep it.
func (c *Cluster) setTLS(w http.ResponseWriter, r *http.Request, _ caller) {
	var change wire.TLSChange
	if c.decode(w, r, &change) {
		reply(w, http.StatusOK, change)
	}
}
