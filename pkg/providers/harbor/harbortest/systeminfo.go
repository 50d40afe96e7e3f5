package harbortest

import (
	"net/http"
	"strings"
)

// systemInfo are ping, health, systeminfo and the like.
func (s *Server) systemInfo() routes {
	return routes{
		"GET /ping":       s.ping,
		"GET /health":     s.health,
		"GET /systeminfo": s.showSystemInfo,
	}
}

func (s *Server) ping(*call) (answer, error) {
	return answer{status: http.StatusOK, header: map[string]string{"Content-Type": "text/plain"}, body: text("Pong")}, nil
}

// health is that of Harbor's own parts, which are all well here.
func (s *Server) health(*call) (answer, error) {
	type component struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	var parts []component
	for _, name := range []string{"core", "database", "jobservice", "portal", "redis", "registry", "registryctl"} {
		parts = append(parts, component{name, "healthy"})
	}
	return shown(struct {
		Components []component `json:"components"`
		Status     string      `json:"status"`
	}{parts, "healthy"})
}

// showSystemInfo says its version only to who is logged in.
func (s *Server) showSystemInfo(c *call) (answer, error) {
	type known struct {
		Time                stamp  `json:"current_time"`
		ExternalURL         string `json:"external_url"`
		Version             string `json:"harbor_version"`
		HasCARoot           bool   `json:"has_ca_root"`
		NotificationEnable  bool   `json:"notification_enable"`
		CreationRestriction string `json:"project_creation_restriction"`
		ReadOnly            bool   `json:"read_only"`
		Storage             string `json:"registry_storage_provider_name"`
		RegistryURL         string `json:"registry_url"`
	}
	type info struct {
		AuthMode         string `json:"auth_mode"`
		Banner           string `json:"banner_message"`
		OIDCName         string `json:"oidc_provider_name"`
		PrimaryAuthMode  bool   `json:"primary_auth_mode"`
		SelfRegistration bool   `json:"self_registration"`
		*known
	}
	i := info{
		AuthMode:         s.setting("auth_mode"),
		Banner:           s.setting("banner_message"),
		PrimaryAuthMode:  s.settingFlag("primary_auth_mode"),
		SelfRegistration: s.settingFlag("self_registration"),
	}
	if i.AuthMode == "oidc_auth" {
		i.OIDCName = s.setting("oidc_name")
	}
	if c.who.authenticated() {
		_, host, _ := strings.Cut(s.options.Address, "://")
		i.known = &known{
			Time: stamp(s.now()), ExternalURL: s.options.Address, Version: s.options.Version,
			NotificationEnable:  s.settingFlag("notification_enable"),
			CreationRestriction: s.setting("project_creation_restriction"),
			ReadOnly:            s.readOnly(), Storage: "filesystem", RegistryURL: host,
		}
	}
	return shown(i)
}
