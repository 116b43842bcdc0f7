package nodes

import (
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/roles"
)

// NewMaster runs one master.
func NewMaster() *cobra.Command {
	var process processFlags
	var adminTokenFile string
	cfg := roles.DefaultMaster()
	cmd := &cobra.Command{
		Use:   "master",
		Short: "Run a master",
		Long: `Run a master: a member of the raft group that keeps the status table and serves the API.

Give every master the same --peers, the HTTP URLs of all masters, at every start. The first master of the list creates
the group once all of them run and all are new. To add a master to an existing group, give it --join with the URLs of
some of its masters instead: it first catches up and then votes. A master with a wiped disk rejoins the same way and
replaces the previous master at its address.`,
		Example: `  chainstore master --data /var/lib/chainstore --http 127.0.0.1:8000 --raft 127.0.0.1:8010 \
    --peers http://127.0.0.1:8000,http://127.0.0.1:8001,http://127.0.0.1:8002 \
    --cluster-token-file cluster.token --admin-token-file admin.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := process.prepare("master", &cfg.NodeConfig)
			if err != nil {
				return err
			}
			if cfg.AdminToken, err = cli.ReadSecret(adminTokenFile, cli.EnvAdminToken); err != nil {
				return err
			}
			master, err := roles.OpenMaster(cfg)
			if err != nil {
				return err
			}
			return runRole(cmd, cfg.Logger, master)
		},
	}
	flags := cmd.Flags()
	process.add(flags)
	bindFlags(flags, cfg.Flags())
	flags.StringVar(&adminTokenFile, "admin-token-file", "", "`file` with the admin token (or "+cli.EnvAdminToken+")")
	return cmd
}
