package masterapi_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// waitingWorkers has workers wait for approval, and checks who may decide about them and who sees them.
func (c *cluster) waitingWorkers() {
	ada, oscar := c.newAdmin("ada-w", wire.RoleAdmin), c.newAdmin("oscar-w", wire.RoleOperator)
	eve := c.newAdmin("eve-w", wire.RoleAuditor)
	forbidden, missing := wire.ErrForbidden.Name, wire.ErrNotFound.Name
	setting := func(i int, token, body string, status int, problem string) {
		c.t.Helper()
		c.do(i, request{name: "setting", method: "PATCH", path: "/v1/settings", token: token, body: body,
			status: status, problem: problem})
	}
	setting(0, oscar.Token, `{"approve_workers":true}`, 403, forbidden)
	setting(1, ada.Token, `{"approve_workers":1}`, 400, wire.ErrBadRequest.Name)
	changed := answer[wire.Settings](c, 2, request{method: "PATCH", path: "/v1/settings", token: ada.Token,
		body: `{"approve_workers":true}`, status: 200})
	if !changed.ApproveWorkers {
		c.t.Errorf("%+v", changed)
	}
	setting(0, oscar.Token, `{"approve_workers":false}`, 403, forbidden)
	var ids []string
	for i, role := range []string{"storage", "miner", "miner"} {
		body := fmt.Sprintf(`{"role":%q,"url":"http://127.0.0.1:%d","master_token":"t","boot":"1","level":7}`, role,
			i+1)
		registered := answer[wire.Registered](c, i, request{method: "POST", path: wire.PathWorkers,
			token: c.file.Tokens.Cluster, body: body, status: 200})
		if !registered.Waiting || registered.Order != "" {
			c.t.Errorf("%+v", registered)
		}
		ids = append(ids, registered.ID)
	}
	approve := func(i int, token, id string, status int, problem string) {
		c.t.Helper()
		c.do(i, request{name: "approve " + id, method: "POST", path: "/v1/waiting-workers/" + id + "/approve",
			token: token, status: status, problem: problem})
	}
	refuse := func(i int, token, id string, status int, problem string) {
		c.t.Helper()
		c.do(i, request{name: "refuse " + id, method: "DELETE", path: "/v1/waiting-workers/" + id, token: token,
			status: status, problem: problem})
	}
	for _, token := range []string{oscar.Token, eve.Token, c.file.Tokens.Project} {
		approve(0, token, ids[0], 403, forbidden)
		refuse(0, token, ids[0], 403, forbidden)
	}
	approve(1, ada.Token, ids[0], 200, "")
	approve(2, ada.Token, "nobody", 404, missing)
	refuse(0, ada.Token, ids[1], 204, "")
	refuse(1, ada.Token, ids[1], 404, missing)
	for i := range c.file.Masters {
		seen := answer[wire.Cluster](c, i, request{method: "GET", path: "/v1/cluster", token: eve.Token, status: 200})
		notices := strings.Join(seen.Notices, "\n")
		wrong := func(w wire.WaitingWorker) bool { return w.Approved != (w.ID == ids[0]) }
		if len(seen.Waiting) != 2 || strings.Contains(notices, ids[0]) || !strings.Contains(notices, ids[2]) ||
			slices.ContainsFunc(seen.Waiting, wrong) {
			c.t.Errorf("%+v, %s", seen.Waiting, notices)
		}
		seen = answer[wire.Cluster](c, i, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Project,
			status: 200})
		if len(seen.Waiting) != 0 || strings.Contains(strings.Join(seen.Notices, "\n"), ids[2]) {
			c.t.Errorf("a user sees %+v, %q", seen.Waiting, seen.Notices)
		}
	}
	c.do(0, request{name: "a refused worker", method: "POST", path: wire.PathWorkers, token: c.file.Tokens.Cluster,
		body: fmt.Sprintf(`{"role":"miner","id":%q,"url":"http://127.0.0.1:2","master_token":"t","boot":"1","level":7}`,
			ids[1]), status: 410, problem: wire.ErrRemoved.Name})
	setting(2, ada.Token, `{"approve_workers":false}`, 200, "")
	approve(0, ada.Token, ids[2], 404, missing)
	for _, admin := range []wire.CreatedAdmin{oscar, eve, ada} {
		c.do(0, request{name: "revoke", method: "DELETE", path: fmt.Sprint("/v1/admins/", admin.ID),
			token: c.file.Tokens.Admin, status: 204})
	}
}
