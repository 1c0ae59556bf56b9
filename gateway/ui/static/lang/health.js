// Texts of the page on the gateway's health.
export default {
  en: {
    "health.memory": "Memory",
    "health.state.ready": "ready",
    "health.state.off": "off",
    "health.state.loading": "loading",
    "health.state.degraded": "degraded",
    "health.state.unreachable": "unreachable",
  },
  zh: {
    "health.memory": "记忆",
    "health.state.ready": "就绪",
    "health.state.off": "关闭",
    "health.state.loading": "加载中",
    "health.state.degraded": "降级",
    "health.state.unreachable": "无法连接",
  },
};
