package nodes

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/roles"
)

// NewMaster runs one master.
func NewMaster() *cobra.Command {
	var adminTokenFile string
	cfg := roles.DefaultMaster()
	var cmd *cobra.Command
	cmd = newRoleCommand(&cobra.Command{
		Use:   "master",
		Short: "Run a master",
		Long: `Run a master: a member of the raft group that keeps the status table and serves the API.

Give every master the same --peers, the HTTP URLs of all masters, at every start. The master with the lowest URL founds
the group once all of them run and all are new. To add a master to an existing group, give it --join with the URLs of
some of its masters instead, and --join-ticket-file with a ticket of 'chainstore master ticket create': it first catches
up and then votes. A master with a wiped disk is a new master too: remove the previous one first.`,
		Example: `  chainstore master --data /var/lib/chainstore --http 127.0.0.1:8000 --raft 127.0.0.1:8010 \
    --peers http://127.0.0.1:8000,http://127.0.0.1:8001,http://127.0.0.1:8002 \
    --cluster-token-file cluster.token --admin-token-file admin.token`,
	}, &cfg.NodeConfig, cfg.Flags(), func() (_ runnable, err error) {
		cfg.AdminToken, err = cli.ReadNodeSecret("admin token", adminTokenFile, cli.EnvAdminToken, cfg.Data,
			cfg.Logger.Warn)
		if err != nil {
			return nil, err
		}
		cmd.Flags().Visit(func(f *pflag.Flag) { cfg.SettingsGiven = append(cfg.SettingsGiven, f.Name) })
		return roles.OpenMaster(cfg)
	})
	cmd.Flags().StringVar(&adminTokenFile, "admin-token-file", "",
		"`file` with the admin token (or "+cli.EnvAdminToken+"); not needed once the group has named admin tokens")
	return cmd
}
