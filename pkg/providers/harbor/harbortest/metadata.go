package harbortest

import (
	"cmp"
	"strconv"
)

func (s *Server) projectMetadata() routes {
	const at = "/projects/{project_name_or_id}/metadatas/"
	return routes{
		"GET " + at:                    s.listMetadata,
		"POST " + at:                   s.addMetadata,
		"GET " + at + "{meta_name}":    s.showMetadata,
		"PUT " + at + "{meta_name}":    s.updateMetadata,
		"DELETE " + at + "{meta_name}": s.deleteMetadata,
	}
}

// listMetadata shows them as they were written, unlike the project itself.
func (s *Server) listMetadata(c *call) (answer, error) {
	p, err := s.project(c, "metadata", "list")
	if err != nil {
		return answer{}, err
	}
	return shown(p.metadata)
}

func (s *Server) showMetadata(c *call) (answer, error) {
	p, err := s.project(c, "metadata", "read")
	if err != nil {
		return answer{}, err
	}
	one := map[string]string{}
	if value, has := p.metadata[c.vars["meta_name"]]; has {
		one[c.vars["meta_name"]] = value
	}
	return shown(one)
}

func (s *Server) addMetadata(c *call) (answer, error) {
	p, err := s.project(c, "metadata", "create")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[map[string]string](c)
	if err != nil {
		return answer{}, err
	}
	if len(given) != 1 {
		return answer{}, badRequest("only allow one key/value pair")
	}
	for key, value := range given {
		value, err := s.checkMetadata(p, key, value)
		if err != nil {
			return answer{}, err
		}
		if _, has := p.metadata[key]; has {
			return answer{}, conflict("metadata %s already exists for project %d", key, p.id)
		}
		p.metadata[key] = value
	}
	return done()
}

// updateMetadata changes what is there; what is not stays so, without a word.
func (s *Server) updateMetadata(c *call) (answer, error) {
	p, err := s.project(c, "metadata", "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[map[string]string](c)
	if err != nil {
		return answer{}, err
	}
	key := c.vars["meta_name"]
	value, err := s.checkMetadata(p, key, given[key])
	if err != nil {
		return answer{}, err
	}
	if _, has := p.metadata[key]; has {
		p.metadata[key] = value
	}
	return done()
}

func (s *Server) deleteMetadata(c *call) (answer, error) {
	p, err := s.project(c, "metadata", "delete")
	if err != nil {
		return answer{}, err
	}
	delete(p.metadata, c.vars["meta_name"])
	return done()
}

// checkMetadata is a value as it is kept. Only here does Harbor check them.
func (s *Server) checkMetadata(p *project, key, value string) (string, error) {
	invalid := badRequest("invalid value: %s", value)
	if !s.knows(key) {
		return "", badRequest("invalid key: %s", key)
	}
	switch key {
	case "public", "enable_content_trust", "enable_content_trust_cosign", "auto_sbom_generation", "prevent_vul", "auto_scan",
		"reuse_sys_cve_allowlist", "proxy_cache_local_on_not_found", "proxy_referrer_api":
		v, err := strconv.ParseBool(value)
		if err != nil {
			return "", invalid
		}
		return strconv.FormatBool(v), nil
	case "severity":
		if v := severity(value); v != "unknown" {
			return v, nil
		}
		return "", invalid
	case "proxy_speed_kb", "max_upstream_conn":
		n, err := strconv.ParseInt(value, 10, 32)
		switch {
		case err != nil:
			return "", invalid
		case key == "max_upstream_conn" && !s.before(16) && n <= 0 && n != -1:
			return "", badRequest("invalid value for %s: %d", key, n)
		}
		return strconv.FormatInt(n, 10), nil
	case "proxy_cache_filter_pattern", "proxy_cache_filter_kind":
		if p.registry == 0 {
			return "", badRequest("can not update the normal project with proxy cache filter metadata")
		}
		next := map[string]string{
			"proxy_cache_filter_pattern": p.metadata["proxy_cache_filter_pattern"],
			"proxy_cache_filter_kind":    cmp.Or(p.metadata["proxy_cache_filter_kind"], "doublestar"),
		}
		next[key] = value
		if checkFilter(next) != nil {
			return "", badRequest("invalid %s: %q", key, value)
		}
		return value, nil
	}
	return "", badRequest("invalid key: %s", key)
}
