import type { NextConfig } from "next";

const { TENANTRY_API_URL: api, TENANTRY_EMULATOR_URL: emulator } = process.env;

const config: NextConfig = {
  outputFileTracingRoot: __dirname,
  rewrites: async () => [
    { source: "/api/:path*", destination: `${api}/api/:path*` },
    { source: "/__clerk/:path*", destination: `${emulator}/__clerk/:path*` },
  ],
};

export default config;
